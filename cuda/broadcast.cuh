// Broadcast: where the elements of two operands lie that NumPy's rule stretches to the shape of an output. Made on the
// host, read by every thread.
//
//   const Broadcast broadcast({64, 10}, {64, 10}, {10});
//   broadcast.at(25).a;   // 25
//   broadcast.at(25).b;   // 5
//
// Axes are merged, so a thread divides as rarely as the shapes allow.
#pragma once

#include <cstdint>

#include <xent/core/shape.h>
#include <xent/cuda/divisor.cuh>
#include <xent/ops/broadcast.h>

namespace xent::cuda {

class Broadcast {
 public:
  Broadcast(const Shape& out, const Shape& a, const Shape& b) {
    const BroadcastAxes merged(out, a, b);
    rank_ = merged.rank;
    for (int axis = 0; axis < rank_; ++axis) {
      const auto& [extent, a_step, b_step] = merged.axes[static_cast<size_t>(axis)];
      axes_[axis] = {Divisor(extent), a_step, b_step};
    }
  }

  struct Offsets {
    int64_t a, b;
  };

  // The elements of the operands that go with the output's element i.
  __device__ Offsets at(int64_t i) const {
    Offsets offsets{};
    for (int axis = 0; axis + 1 < rank_; ++axis) {
      const auto [beyond, within] = axes_[axis].extent.of(i);
      offsets.a += within * axes_[axis].a_step;
      offsets.b += within * axes_[axis].b_step;
      i = beyond;
    }
    offsets.a += i * axes_[rank_ - 1].a_step;  // the outermost axis: no division
    offsets.b += i * axes_[rank_ - 1].b_step;
    return offsets;
  }

 private:
  struct Axis {
    Divisor extent;
    int64_t a_step = 0, b_step = 0;  // a step of 0 stretches
  };
  Axis axes_[Shape::max_rank] = {};  // the innermost first
  int rank_ = 0;
};

}  // namespace xent::cuda
