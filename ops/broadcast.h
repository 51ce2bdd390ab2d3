// How two operands are stretched to the shape of an output by NumPy's rule, for the kernels of every device. Private.
#pragma once

#include <array>
#include <cstdint>

#include <xent/core/shape.h>

namespace xent {

// Neighbouring axes that are stretched alike are merged: [64, 28, 28, 32] + [32] is [50176, 32] + [32], two operands of
// one shape have one axis, and so has any shape with a scalar. The innermost comes first, and there is at least one.
struct BroadcastAxes {
  struct Axis {
    int64_t extent = 1, a_step = 0, b_step = 0;  // a step of 0 stretches
  };
  std::array<Axis, Shape::max_rank> axes{};
  int rank = 0;

  BroadcastAxes(const Shape& out, const Shape& a, const Shape& b) {
    int64_t a_size = 1, b_size = 1;  // elements within the axes seen so far
    Axis* last = nullptr;
    for (int from_last = 1; from_last <= out.rank(); ++from_last) {
      const int64_t extent = out[-from_last];
      if (extent == 1) continue;
      const bool a_full = from_last <= a.rank() && a[-from_last] == extent;
      const bool b_full = from_last <= b.rank() && b[-from_last] == extent;
      if (last && (last->a_step != 0) == a_full && (last->b_step != 0) == b_full) {
        last->extent *= extent;
      } else {
        last = &axes[static_cast<size_t>(rank++)];
        *last = {extent, a_full ? a_size : 0, b_full ? b_size : 0};
      }
      if (a_full) a_size *= extent;
      if (b_full) b_size *= extent;
    }
    if (rank == 0) rank = 1;
  }
};

}  // namespace xent
