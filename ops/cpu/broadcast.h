// BroadcastLoop: walks an output together with two operands that NumPy's rule stretches to its shape.
//
//   const BroadcastLoop loop({64, 10}, {64, 10}, {10});
//   loop.for_each(0, 640, [&](int64_t i, int64_t ia, int64_t ib) { y[i] = a[ia] + b[ib]; });
//
// Neighbouring axes that are stretched alike are merged: [64, 28, 28, 32] + [32] is [50176, 32] + [32], two operands of
// one shape have one axis, and so has any shape with a scalar. The innermost axis is a plain loop that compilers
// vectorise.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <xent/core/shape.h>

namespace xent::cpu {

class BroadcastLoop {
 public:
  BroadcastLoop(const Shape& out, const Shape& a, const Shape& b) {
    int64_t a_size = 1, b_size = 1;  // elements within the axes seen so far
    for (int from_last = 1; from_last <= out.rank(); ++from_last) {
      const int64_t extent = out[-from_last];
      if (extent == 1) continue;
      const bool a_full = from_last <= a.rank() && a[-from_last] == extent;
      const bool b_full = from_last <= b.rank() && b[-from_last] == extent;
      if (rank_ > 0 && (axes_[rank_ - 1].a_step != 0) == a_full && (axes_[rank_ - 1].b_step != 0) == b_full)
        axes_[rank_ - 1].extent *= extent;
      else axes_[rank_++] = {extent, a_full ? a_size : 0, b_full ? b_size : 0};
      if (a_full) a_size *= extent;
      if (b_full) b_size *= extent;
    }
    if (rank_ == 0) axes_[rank_++] = {1, 0, 0};
  }

  // Calls f(i, ia, ib) for the output's elements i in [begin, end), with the offsets of the operands' elements.
  template <class F>
  void for_each(int64_t begin, int64_t end, F&& f) const {
    if (axes_[0].a_step && axes_[0].b_step) walk<1, 1>(begin, end, f);
    else if (axes_[0].a_step) walk<1, 0>(begin, end, f);
    else if (axes_[0].b_step) walk<0, 1>(begin, end, f);
    else walk<0, 0>(begin, end, f);
  }

 private:
  struct Axis {
    int64_t extent, a_step, b_step;  // a step of 0 stretches
  };

  template <int a_step, int b_step, class F>
  void walk(int64_t begin, int64_t end, F& f) const {
    if (begin >= end) return;
    const int64_t inner = axes_[0].extent;
    int64_t column = begin % inner, row = begin / inner, a_row = 0, b_row = 0;
    std::array<int64_t, Shape::max_rank> index{};
    for (size_t axis = 1; axis < rank_; ++axis) {
      index[axis] = row % axes_[axis].extent;
      row /= axes_[axis].extent;
      a_row += index[axis] * axes_[axis].a_step;
      b_row += index[axis] * axes_[axis].b_step;
    }
    while (begin < end) {
      const int64_t count = std::min(inner - column, end - begin);
      const int64_t a = a_row + column * a_step, b = b_row + column * b_step;
      for (int64_t k = 0; k < count; ++k) f(begin + k, a + k * a_step, b + k * b_step);
      begin += count;
      column = 0;
      for (size_t axis = 1; axis < rank_; ++axis) {  // to the next row, as an odometer
        a_row += axes_[axis].a_step;
        b_row += axes_[axis].b_step;
        if (++index[axis] < axes_[axis].extent) break;
        index[axis] = 0;
        a_row -= axes_[axis].a_step * axes_[axis].extent;
        b_row -= axes_[axis].b_step * axes_[axis].extent;
      }
    }
  }

  std::array<Axis, Shape::max_rank> axes_{};  // the innermost first
  size_t rank_ = 0;
};

}  // namespace xent::cpu
