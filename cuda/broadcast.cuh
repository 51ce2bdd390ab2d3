// Broadcast: where the elements of two operands lie that NumPy's rule stretches to the shape of an output. Made on the
// host, read by every thread.
//
//   const Broadcast broadcast({64, 10}, {64, 10}, {10});
//   broadcast.at(25).a;   // 25
//   broadcast.at(25).b;   // 5
//
// Neighbouring axes that are stretched alike are merged: two operands of one shape have one axis, [64, 28, 28, 32] and
// [32] have two, so a thread divides as rarely as the shapes allow.
#pragma once

#include <cstdint>

#include <xent/core/shape.h>
#include <xent/cuda/divisor.cuh>

namespace xent::cuda {

class Broadcast {
 public:
  Broadcast(const Shape& out, const Shape& a, const Shape& b) {
    int64_t a_size = 1, b_size = 1;  // elements within the axes seen so far
    for (int from_last = 1; from_last <= out.rank(); ++from_last) {
      const int64_t extent = out[-from_last];
      if (extent == 1) continue;
      const bool a_full = from_last <= a.rank() && a[-from_last] == extent;
      const bool b_full = from_last <= b.rank() && b[-from_last] == extent;
      if (rank_ > 0 && (axes_[rank_ - 1].a_step != 0) == a_full && (axes_[rank_ - 1].b_step != 0) == b_full)
        axes_[rank_ - 1].extent = Divisor(axes_[rank_ - 1].extent.by * extent);
      else axes_[rank_++] = {Divisor(extent), a_full ? a_size : 0, b_full ? b_size : 0};
      if (a_full) a_size *= extent;
      if (b_full) b_size *= extent;
    }
    if (rank_ == 0) rank_ = 1;  // one element
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
