// Moments: count, sum, and squares about the own mean, of a part of the numbers; two parts add up to the whole's. With
// squares about 0 a common offset would cost digits, and a pass for the mean alone would cost another read.
#pragma once

#include <xent/cuda/axis_sum.cuh>

namespace xent::cuda {

struct Moments {
  double count, sum, squares;

  __device__ friend Moments operator+(const Moments& a, const Moments& b) {
    if (a.count == 0) return b;
    if (b.count == 0) return a;
    const double count = a.count + b.count, apart = a.sum / a.count - b.sum / b.count;
    return {count, a.sum + b.sum, a.squares + b.squares + apart * apart * (a.count * b.count / count)};
  }
};

// The moments of x, as a term of sum_axes. A thread adds up squares about its first number: the squares of n numbers
// about one of them are at most n + 1 times those about their mean, so the difference at the end loses few digits.
template <class T>
struct MomentsOf {
  using Value = Moments;
  struct Running {
    double count, sum, first, off, squares;  // off, squares: of the differences from the first number
  };
  const T* x;

  __device__ void add(Running& running, const Place& place) const {
    const auto value = static_cast<double>(x[place.element]);
    if (running.count == 0) running.first = value;
    const double off = value - running.first;
    running.count += 1;
    running.sum += value;
    running.off += off;
    running.squares += off * off;
  }
  __device__ Moments finish(const Running& running) const {
    const double mean_off = running.count == 0 ? 0 : running.off / running.count;
    return {running.count, running.sum, running.squares - running.off * mean_off};
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(x);
  }
};

}  // namespace xent::cuda
