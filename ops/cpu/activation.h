// The activations that linear fuses, on a run of elements: y = f(z), and dz = dy f'(z) told from y.
#pragma once

#include <cmath>
#include <cstdint>

#include <xent/core/parallel.h>
#include <xent/ops/elementwise.h>
#include <xent/ops/ops.h>

namespace xent::cpu {

template <class T>
void activate(Activation activation, T* y, int64_t count) {
  const auto each = [&](auto f) {
    for (int64_t i = 0; i < count; ++i) y[i] = f.f(y[i]);
  };
  switch (activation) {
    case Activation::none: return;
    case Activation::relu: return each(scalar::Relu{});
    case Activation::tanh: return each(scalar::Tanh{});
    case Activation::sigmoid: return each(scalar::Sigmoid{});
  }
}

template <class T>
void activate_grad(Activation activation, const T* y, const T* dy, T* dz, int64_t count) {
  const auto each = [&](auto f) {
    for (int64_t i = 0; i < count; ++i) dz[i] = f.df(y[i]) * dy[i];
  };
  switch (activation) {
    case Activation::none: return;
    case Activation::relu: return each(scalar::Relu{});
    case Activation::tanh: return each(scalar::Tanh{});
    case Activation::sigmoid: return each(scalar::Sigmoid{});
  }
}

// Returns dz of a whole result: written to place, in parallel, or dy itself where there is no activation.
template <class T>
const T* activation_grad(Activation activation, const T* y, const T* dy, T* place, int64_t count) {
  if (activation == Activation::none) return dy;
  parallel_for(count, 1 << 14, [=](int64_t begin, int64_t end) {
    activate_grad(activation, y + begin, dy + begin, place + begin, end - begin);
  });
  return place;
}

}  // namespace xent::cpu
