// The loops behind optimizer_math.h, one pass over each array: plain loops that the compiler turns into vectors, square
// root and division included, once per instruction set. No array is another one's, which tells it.
#pragma once

#include <cstdint>
#include <limits>

#include <xent/ops/cpu/optimizer_math.h>

namespace xent::cpu {

namespace avx2 {
extern const OptimizerMath<float> optimizer_f32;
extern const OptimizerMath<double> optimizer_f64;
}  // namespace avx2

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }
inline float absolute(float x) { return __builtin_fabsf(x); }
inline double absolute(double x) { return __builtin_fabs(x); }

// The mean of gradients that stay 0, as those of an image's border do, shrinks until it is no normal number any more:
// each of its products would then take ten times as long, for an update that no parameter notices. Not Adam's v, which
// takes a hundred times as many steps to get there: with an epsilon of 0 it is divided by.
template <class T>
[[gnu::always_inline]] inline T normal_or_zero(T mean) {
  constexpr T least = std::numeric_limits<T>::min();  // while compiling: see instruction_set.h
  return absolute(mean) < least ? 0 : mean;
}

template <class T>
void sgd_plain(const Sgd<T>& options, T* x, const T* gradient, int64_t count) {
  const T rate = options.rate, decay = options.decay;
  for (int64_t i = 0; i < count; ++i) x[i] -= rate * (gradient[i] + decay * x[i]);
}

template <class T>
void sgd_momentum(const Sgd<T>& options, T* x, const T* gradient, T* velocity, int64_t count) {
  const T rate = options.rate, momentum = options.momentum, decay = options.decay;
  for (int64_t i = 0; i < count; ++i) {
    velocity[i] = normal_or_zero(momentum * velocity[i] + (gradient[i] + decay * x[i]));
    x[i] -= rate * velocity[i];
  }
}

template <class T>
void sgd_nesterov(const Sgd<T>& options, T* x, const T* gradient, T* velocity, int64_t count) {
  const T rate = options.rate, momentum = options.momentum, decay = options.decay;
  for (int64_t i = 0; i < count; ++i) {
    const T d = gradient[i] + decay * x[i];
    velocity[i] = normal_or_zero(momentum * velocity[i] + d);
    x[i] -= rate * (d + momentum * velocity[i]);
  }
}

template <class T>
void sgd(const Sgd<T>& options, T* x, const T* gradient, T* velocity, int64_t count) {
  if (!velocity) sgd_plain(options, x, gradient, count);
  else if (options.nesterov) sgd_nesterov(options, x, gradient, velocity, count);
  else sgd_momentum(options, x, gradient, velocity, count);
}

template <class T>
void adam(const Adam<T>& options, T* x, const T* gradient, T* m, T* v, int64_t count) {
  const Adam<T> o = options;  // a copy: what is behind a reference might be in one of the arrays
  for (int64_t i = 0; i < count; ++i) {
    const T g = gradient[i] + o.decay * x[i];
    m[i] = normal_or_zero(o.beta1 * m[i] + o.rest1 * g);
    v[i] = o.beta2 * v[i] + o.rest2 * g * g;
    x[i] = o.keep * x[i] - o.size * m[i] / (square_root(v[i]) * o.correction + o.epsilon);
  }
}

template <class T>
constexpr OptimizerMath<T> optimizer_math_of = {sgd<T>, adam<T>};

}  // namespace

}  // namespace xent::cpu
