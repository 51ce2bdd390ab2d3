// What sum, mean and argmax are called with, for the kernels of every device. Private.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <xent/core/op.h>

namespace xent {

struct ReduceAttrs {
  Mask axes;  // bit i stands for axis i
  bool keep_axes;
  bool operator==(const ReduceAttrs&) const = default;
};

struct ArgmaxAttrs {
  int axis;
  bool operator==(const ArgmaxAttrs&) const = default;
};

// Returns x without the axes, or with extents of 1 there.
inline Shape without_axes(const Shape& x, Mask axes, bool keep) {
  std::array<int64_t, Shape::max_rank> extents{};
  size_t rank = 0;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const bool reduced = axes >> axis & 1;
    if (!reduced || keep) extents[rank++] = reduced ? 1 : x[axis];
  }
  return Shape(std::span<const int64_t>(extents.data(), rank));
}

// Returns how many elements of x go into one of y. Without elements in x or y there is no such number: 0.
inline double elements_per_output(const Shape& x, const Shape& y) {
  return y.elements() == 0 ? 0 : static_cast<double>(x.elements() / y.elements());
}

}  // namespace xent
