// BroadcastLoop: walks an output together with two operands that NumPy's rule stretches to its shape.
//
//   const BroadcastLoop loop({64, 10}, {64, 10}, {10});
//   loop.for_each(0, 640, [&](int64_t i, int64_t ia, int64_t ib) { y[i] = a[ia] + b[ib]; });
//
// The innermost of the merged axes is a plain loop that compilers vectorise.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <xent/core/shape.h>
#include <xent/ops/broadcast.h>

namespace xent::cpu {

class BroadcastLoop {
 public:
  BroadcastLoop(const Shape& out, const Shape& a, const Shape& b) : BroadcastLoop(BroadcastAxes(out, a, b)) {}

  // Calls f(i, ia, ib) for the output's elements i in [begin, end), with the offsets of the operands' elements.
  template <class F>
  void for_each(int64_t begin, int64_t end, F&& f) const {
    if (axes_[0].a_step && axes_[0].b_step) walk<1, 1>(begin, end, f);
    else if (axes_[0].a_step) walk<1, 0>(begin, end, f);
    else if (axes_[0].b_step) walk<0, 1>(begin, end, f);
    else walk<0, 0>(begin, end, f);
  }

 private:
  explicit BroadcastLoop(const BroadcastAxes& merged) : axes_(merged.axes), rank_(static_cast<size_t>(merged.rank)) {}

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

  std::array<BroadcastAxes::Axis, Shape::max_rank> axes_;
  size_t rank_;
};

}  // namespace xent::cpu
