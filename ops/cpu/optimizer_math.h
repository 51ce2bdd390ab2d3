// The arithmetic of sgd_step and adam_step on a run of elements, in the widest vector registers the machine has.
#pragma once

#include <cstdint>

namespace xent::cpu {

template <class T>
struct Sgd {
  T rate, momentum, decay;
  bool nesterov;
};

// With t steps done: size = rate / (1 - beta1^t), correction = 1 / sqrt(1 - beta2^t), rest = 1 - beta.
template <class T>
struct Adam {
  T beta1, rest1, beta2, rest2, epsilon, size, correction;
  T decay, keep;  // weight decay into the gradient, or off the parameter: keep = 1 - rate decay
};

template <class T>
struct OptimizerMath {
  void (*sgd)(const Sgd<T>& options, T* x, const T* gradient, T* velocity, int64_t count);  // velocity may be null
  void (*adam)(const Adam<T>& options, T* x, const T* gradient, T* m, T* v, int64_t count);
};

// Instantiated for float and double.
template <class T>
const OptimizerMath<T>& optimizer_math();

}  // namespace xent::cpu
