// The activations that linear fuses, on a run of elements: y = f(z), and dz = dy f'(z) told from y. In vector registers
// for f32.
#pragma once

#include <cstdint>
#include <type_traits>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/vector_math.h>
#include <xent/ops/elementwise.h>
#include <xent/ops/ops.h>

namespace xent::cpu {

// Calls body(function, its loops over f32 in vector registers), unless there is no activation.
template <class Body>
void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::none: return;
    case Activation::relu: return body(scalar::Relu{}, vector_math().relu);
    case Activation::tanh: return body(scalar::Tanh{}, vector_math().tanh);
    case Activation::sigmoid: return body(scalar::Sigmoid{}, vector_math().sigmoid);
  }
}

template <class T>
void activate(Activation activation, T* y, int64_t count) {
  with_activation(activation, [&](auto scalar, const VectorFunction& vectors) {
    if constexpr (std::is_same_v<T, float>) vectors.f(y, y, count);
    else
      for (int64_t i = 0; i < count; ++i) y[i] = scalar.f(y[i]);
  });
}

template <class T>
void activate_grad(Activation activation, const T* y, const T* dy, T* dz, int64_t count) {
  with_activation(activation, [&](auto scalar, const VectorFunction& vectors) {
    if constexpr (std::is_same_v<T, float>) vectors.df(y, dy, dz, count);
    else
      for (int64_t i = 0; i < count; ++i) dz[i] = scalar.df(y[i]) * dy[i];
  });
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
