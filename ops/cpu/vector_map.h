// The functions of vector_math.h as loops over vectors of so many bytes: compiled once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include <xent/ops/cpu/vector_math.h>
#include <xent/ops/cpu/vector_math_kernel.h>

namespace xent::cpu {

namespace avx2 {
extern const VectorMath vector_math;
}  // namespace avx2
namespace avx512 {
extern const VectorMath vector_math;
}  // namespace avx512

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

struct VectorRelu {
  template <class V>
  static V f(V x) {
    return x <= 0.0f ? V{} : x;  // keeps NaN
  }
  template <class V>
  static V df(V y) {
    return y <= 0.0f ? V{} : V{} + 1.0f;
  }
};

struct VectorTanh {
  template <class V>
  static V f(V x) {
    return vector_tanh(x);
  }
  template <class V>
  static V df(V y) {
    return (1.0f - y) * (1.0f + y);  // 1 - y y would cancel near 1
  }
};

struct VectorSigmoid {
  template <class V>
  static V f(V x) {
    return vector_sigmoid(x);
  }
  template <class V>
  static V df(V y) {
    return y * (1.0f - y);
  }
};

struct VectorGelu {
  template <class V>
  static V f(V x) {
    return vector_gelu(x);
  }
  template <class V>
  static V df(V x) {
    return vector_gelu_slope(x);
  }
};

struct VectorExp {
  template <class V>
  static V f(V x) {
    return vector_exp(x);
  }
  template <class V>
  static V df(V y) {
    return y;
  }
};

struct VectorLog {
  template <class V>
  static V f(V x) {
    return vector_log(x);
  }
  template <class V>
  static V df(V x) {
    return 1.0f / x;
  }
};

template <int bytes, class F>
struct VectorLoops {
  typedef float V __attribute__((vector_size(bytes)));
  static constexpr int64_t lanes = bytes / static_cast<int64_t>(sizeof(float));

  static V load(const float* x) {
    V v;
    __builtin_memcpy(&v, x, bytes);
    return v;
  }
  static void store(float* y, V v) { __builtin_memcpy(y, &v, bytes); }

  // Not inlined: what is left over goes through the same instructions, and so gives the same bits.
  [[gnu::noinline]] static void whole(const float* x, float* y, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) store(y + i, F::f(load(x + i)));
  }
  [[gnu::noinline]] static void whole_grad(const float* v, const float* dy, float* dx, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) store(dx + i, load(dy + i) * F::df(load(v + i)));
  }

  static void f(const float* x, float* y, int64_t count) {
    const int64_t even = count / lanes * lanes;
    whole(x, y, even);
    if (even == count) return;
    float rest[lanes] = {};
    const size_t left = static_cast<size_t>(count - even) * sizeof(float);
    __builtin_memcpy(rest, x + even, left);
    whole(rest, rest, lanes);
    __builtin_memcpy(y + even, rest, left);
  }
  static void df(const float* v, const float* dy, float* dx, int64_t count) {
    const int64_t even = count / lanes * lanes;
    whole_grad(v, dy, dx, even);
    if (even == count) return;
    float rest_v[lanes] = {}, rest[lanes] = {};
    const size_t left = static_cast<size_t>(count - even) * sizeof(float);
    __builtin_memcpy(rest_v, v + even, left);
    __builtin_memcpy(rest, dy + even, left);
    whole_grad(rest_v, rest, rest, lanes);
    __builtin_memcpy(dx + even, rest, left);
  }
};

template <int bytes, class F>
constexpr VectorFunction vector_function = {VectorLoops<bytes, F>::f, VectorLoops<bytes, F>::df};

template <int bytes>
constexpr VectorMath vector_math_of = {vector_function<bytes, VectorRelu>,    vector_function<bytes, VectorTanh>,
                                       vector_function<bytes, VectorSigmoid>, vector_function<bytes, VectorGelu>,
                                       vector_function<bytes, VectorExp>,     vector_function<bytes, VectorLog>};

}  // namespace

}  // namespace xent::cpu
