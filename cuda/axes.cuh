// MergedAxes: some axes of a shape, and where the elements along them lie. Axes that are neighbours in memory are
// merged, so a thread that looks for an element divides as rarely as can be.
//
//   MergedAxes axes;
//   axes.push(32, 1), axes.push(28, 32);   // 28 rows of 32: one axis of 896
//   axes.push(64, 1024);                   // the innermost first
//   axes.offset(900);                      // 1028, in a kernel
#pragma once

#include <cstdint>

#include <xent/core/shape.h>
#include <xent/cuda/divisor.cuh>

namespace xent::cuda {

struct MergedAxes {
  Divisor extent[Shape::max_rank];
  int64_t stride[Shape::max_rank] = {};
  int rank = 1;
  int64_t size = 1;

  // An axis outside those there are. It is merged with the last one if it is that one's neighbour.
  void push(int64_t next_extent, int64_t next_stride) {
    if (size != 1 && next_stride == stride[rank - 1] * extent[rank - 1].by) {
      extent[rank - 1] = Divisor(extent[rank - 1].by * next_extent);
    } else {
      if (size != 1) ++rank;
      extent[rank - 1] = Divisor(next_extent);
      stride[rank - 1] = next_stride;
    }
    size *= next_extent;
  }
  __device__ int64_t offset(int64_t index) const {
    int64_t at = 0;
    for (int axis = 0; axis + 1 < rank; ++axis) {
      const auto [beyond, within] = extent[axis].of(index);
      at += within * stride[axis];
      index = beyond;
    }
    return at + index * stride[rank - 1];  // the outermost axis: no division
  }
};

}  // namespace xent::cuda
