// Checks that the shape rules of several ops share. Private, as core/require.h is.
#pragma once

#include <xent/core/op.h>
#include <xent/core/require.h>

namespace xent {

// Throws ArgumentError for an empty tensor handle.
inline void require_given(const char* op, const Spec& input) {
  require<ArgumentError>(input.present, "{}: an empty tensor handle was given", op);
}

// Throws DTypeError for a dtype that ops do not compute in.
inline void require_computable(const char* op, const Spec& input) {
  require_given(op, input);
  require<DTypeError>(input.dtype == DType::f32 || input.dtype == DType::f64,
                      "{}: takes f32 and f64, not {}; cast first", op, input.dtype);
}

// Turns an axis that may count from the end into one in [0, rank). Throws ShapeError naming the op.
inline int resolve_axis(const char* op, const Shape& shape, int64_t axis) {
  require<ShapeError>(axis >= -shape.rank() && axis < shape.rank(),
                      "{}: axis {} is not in [{}, {}) of shape {}", op, axis, -shape.rank(), shape.rank(), shape);
  return shape.resolve(axis);
}

}  // namespace xent
