// permute's attributes, and the walk through its tensors, for the kernels of every device. Private.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <xent/core/op.h>
#include <xent/ops/elementwise.h>

namespace xent {

using Axes = std::array<int64_t, Shape::max_rank>;

struct PermuteAttrs {
  Axes axes;
  size_t count;
  bool operator==(const PermuteAttrs&) const = default;
};

// Counts axes from the front; -1 stands for one that is out of range.
inline Axes resolved(const PermuteAttrs& attrs, int rank) {
  Axes axes{};
  for (size_t k = 0; k < std::min(attrs.count, axes.size()); ++k) {
    const int64_t axis = attrs.axes[k];
    axes[k] = axis < -rank || axis >= rank ? -1 : axis < 0 ? axis + rank : axis;
  }
  return axes;
}

inline Axes inverse(const Axes& axes, int rank) {
  Axes from{};
  for (int k = 0; k < rank; ++k) from[static_cast<size_t>(axes[static_cast<size_t>(k)])] = k;
  return from;
}

// The axes of the result that are left after merging, the last one first, and how far apart their elements are.
struct Walk {
  struct Part {
    int64_t extent, from, to;  // strides in x and y
  };
  Part parts[Shape::max_rank] = {};
  int rank = 0;
  int contiguous = 0;  // the axis along which x is contiguous; 0 if it is y's last one too

  Walk(const Shape& x, const Axes& axes) {
    int64_t to = 1;
    for (int k = x.rank(); k-- > 0;) {
      const int axis = static_cast<int>(axes[static_cast<size_t>(k)]);
      const int64_t extent = x[axis], from = x.product(axis + 1, x.rank());
      if (extent == 1) continue;
      if (rank > 0 && from == parts[rank - 1].from * parts[rank - 1].extent) parts[rank - 1].extent *= extent;
      else parts[rank++] = {extent, from, to};
      to *= extent;
    }
    if (rank == 0) parts[rank++] = {1, 1, 1};
    for (int k = 0; k < rank; ++k)
      if (parts[k].from == 1) contiguous = k;
  }

  struct Start {
    int64_t from, to;
  };

  // Where in x and y the index-th combination of the axes begins that are neither last nor contiguous.
  XENT_HOST_DEVICE Start start(int64_t index) const {
    Start at{};
    for (int k = 1; k < rank; ++k) {
      if (k == contiguous) continue;
      at.from += index % parts[k].extent * parts[k].from;
      at.to += index % parts[k].extent * parts[k].to;
      index /= parts[k].extent;
    }
    return at;
  }
};

}  // namespace xent
