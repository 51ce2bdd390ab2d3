// Checks that the shape rules of several ops share. Private, as core/require.h is.
#pragma once

#include <xent/core/op.h>
#include <xent/core/require.h>

namespace xent {

// Throws DTypeError for a dtype that ops do not compute in.
inline void require_computable(const char* op, const Spec& input) {
  require<DTypeError>(is_computable(input.dtype), "{}: takes f32 and f64, not {}; cast first", op, input.dtype);
}

// Throws DTypeError, or ShapeError for what is not [batch, height, width, channels] of at least one pixel.
inline void require_images(const char* op, const Spec& x) {
  require_computable(op, x);
  require<ShapeError>(x.shape.rank() == 4 && x.shape[1] >= 1 && x.shape[2] >= 1,
                      "{}: input {}: expected [batch, height, width, channels] of at least one pixel", op, x.shape);
}

// Turns an axis of x that may count from the end into one in [0, rank). Throws ShapeError naming the op.
inline int resolve_axis(const char* op, const Tensor& x, int64_t axis) {
  require<ArgumentError>(static_cast<bool>(x), "{}: the input is an empty tensor handle", op);
  const Shape& shape = x.shape();
  require<ShapeError>(axis >= -shape.rank() && axis < shape.rank(), "{}: axis {} is not in [{}, {}) of shape {}", op,
                      axis, -shape.rank(), shape.rank(), shape);
  return shape.resolve(axis);
}

}  // namespace xent
