// Elementary functions on vectors of floats: no table, no branch, every input.
//
//   typedef float Floats __attribute__((vector_size(64)));  // 4, 8 or 16 lanes
//   Floats y = vector_exp(x);
//
// Templates in the compiler's vector types, compiled once per instruction set. A lane's bits do not depend on the
// others, nor on how many lanes there are; with a fused multiply-add (-ffp-contract=fast) the last bit may be another
// one. Errors are in units of the result's last place (ulp), measured over all floats.
#pragma once

#include <cstdint>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

// The vector of 32-bit integers with as many lanes: what comparing two vectors of floats gives.
template <class V>
using IntegersOf = decltype(V{} < V{});

// exp(x + tail), the tail at most 1/16: digits of x that a float has no room for.
//
// x = n ln 2 + r with |r| <= ln 2 / 2, and exp(r) = 1 + r + r^2 q(r), q of the least relative error for its degree,
// 3e-9. 2^n is multiplied in two halves: each is a float where 2^n is none, and only the last product rounds.
template <class V>
[[gnu::always_inline]] inline V vector_exp(V x, V tail) {
  using Integers = IntegersOf<V>;
  constexpr float above = 89, below = -104;                                 // exp is +inf, and 0
  const V bounded = x > above ? V{} + above : x < below ? V{} + below : x;  // NaN passes
  constexpr float shifter = 0x1.8p23f;  // a sum with it is rounded to an integer, which is then in its lowest bits
  const V shifted = bounded * 0x1.715476p0f + shifter;
  const V n = shifted - shifter;
  const V r = bounded - n * 0x1.63p-1f + (tail - n * -0x1.bd0106p-13f);  // n times the first part of ln 2 is exact
  V q = r * 0x1.6a1fa8p-10f + 0x1.123a1ap-7f;
  q = q * r + 0x1.5558f8p-5f;
  q = q * r + 0x1.555492p-3f;
  q = q * r + 0x1.fffffcp-2f;
  const V power = q * (r * r) + r + 1.0f;
  const Integers exponent = (Integers)shifted - (Integers)(V{} + shifter);  // casts between vector types keep the bits
  const Integers half = exponent >> 1;
  return power * (V)((half + 127) << 23) * (V)((exponent - half + 127) << 23);
}

// exp(x) within 1.02 ulp, subnormal results included; exp(-inf) = 0.
template <class V>
[[gnu::always_inline]] inline V vector_exp(V x) {
  return vector_exp(x, V{});
}

template <class V>
[[gnu::always_inline]] inline V magnitude(V x) {
  return (V)((IntegersOf<V>)x & INT32_MAX);
}

// log(x) within 1 ulp: -inf at 0, NaN below.
//
// x = 2^n (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and log(1 + f) = f - f^2/2 + f^3 p(f).
template <class V>
[[gnu::always_inline]] inline V vector_log(V x) {
  using Integers = IntegersOf<V>;
  constexpr float smallest_normal = 0x1p-126f;
  const Integers subnormal = x < smallest_normal;
  const Integers bits = (Integers)magnitude(subnormal ? x * 0x1p23f : x);
  const Integers exponent = (bits - 0x3F3504F3) >> 23;  // the bits of sqrt(1/2)
  const V f = (V)(bits - (exponent << 23)) - 1.0f;
  const V n = __builtin_convertvector(subnormal ? exponent - 23 : exponent, V);
  V p = f * 0x1.1c26cap-4f - 0x1.e53e06p-4f;
  p = p * f + 0x1.e6f718p-4f;
  p = p * f - 0x1.fafb5cp-4f;
  p = p * f + 0x1.232aa4p-3f;
  p = p * f - 0x1.55641ap-3f;
  p = p * f + 0x1.99a512p-3f;
  p = p * f - 0x1.ffffeap-3f;
  p = p * f + 0x1.555548p-2f;
  const V square = f * f;
  const V small = n * -0x1.bd0106p-13f + square * f * p;
  const V y = n * 0x1.63p-1f + (f + (small - square * 0.5f));
  const V infinity = V{} + __builtin_inff();
  return x > 0.0f ? (x < infinity ? y : x) : x == 0.0f ? -infinity : V{} + __builtin_nanf("");
}

// tanh(x) within 2 ulp: x + x^3 p(x^2) for small x, else 1 - 2 / (exp(2x) + 1).
template <class V>
[[gnu::always_inline]] inline V vector_tanh(V x) {
  const V a = magnitude(x), square = a * a;
  V p = square * -0x1.75f09ap-8f + 0x1.522a02p-6f;
  p = p * square - 0x1.b83ce4p-5f;
  p = p * square + 0x1.11072cp-3f;
  p = p * square - 0x1.555532p-2f;
  const V y = a < 0.625f ? a * square * p + a : 1.0f - 2.0f / (vector_exp(a + a) + 1.0f);
  return (V)((IntegersOf<V>)y | ((IntegersOf<V>)x & INT32_MIN));
}

// 1 / (1 + exp(-x)) within 3 ulp. The power is at most 1, so nothing overflows and small results keep their digits.
template <class V>
[[gnu::always_inline]] inline V vector_sigmoid(V x) {
  const V power = vector_exp(-magnitude(x));
  return (x < 0.0f ? power : V{} + 1.0f) / (1.0f + power);
}

// The normal distribution function and its density.
template <class V>
struct Normal {
  V phi, density;
};

// phi(x) = 1/2 + x q(x^2) near 0, and phi(-a) = exp(-a^2/2) t p(t) for a >= 1, with t = 1 / (1 + a/4). The exponent is
// told in two parts: rounded to one float, it would cost the power half of its digits where a is large.
template <class V>
[[gnu::always_inline]] inline Normal<V> vector_normal(V x) {
  const V size = magnitude(x), a = size > 16.0f ? V{} + 16.0f : size;  // beyond, both are 0 in a float
  const V high = (V)((IntegersOf<V>)a & ~0xFFF);                       // its square is exact
  const V power = vector_exp(high * high * -0.5f, (a - high) * (a + high) * -0.5f);
  const V t = 1.0f / (1.0f + 0.25f * a);
  V p = t * 0x1.19c088p-6f - 0x1.0f344ep-4f;
  p = p * t + 0x1.ea881cp-5f;
  p = p * t + 0x1.197498p-6f;
  p = p * t + 0x1.6e2cf0p-6f;
  p = p * t + 0x1.4d0e92p-4f;
  p = p * t + 0x1.2ec1d0p-4f;
  p = p * t + 0x1.857b3ap-4f;
  p = p * t + 0x1.97bdeap-4f;
  p = p * t + 0x1.988e36p-4f;
  const V square = a * a, tail = power * (t * p);
  V q = square * -0x1.fa819cp-18f + 0x1.dac412p-14f;
  q = q * square - 0x1.36e99ap-10f;
  q = q * square + 0x1.46cd3cp-7f;
  q = q * square - 0x1.10582cp-4f;
  q = q * square + 0x1.988454p-2f;
  const V phi = a < 1.0f ? 0.5f + x * q : x < 0.0f ? tail : 1.0f - tail;
  return {phi, power * 0x1.988454p-2f};  // 1 / sqrt(2 pi)
}

// x phi(x) within 7 ulp, and 10 below -12, where phi is subnormal.
template <class V>
[[gnu::always_inline]] inline V vector_gelu(V x) {
  const V phi = vector_normal(x).phi;
  return phi == 0.0f ? V{} : x * phi;  // the limit at -infinity, where x phi is NaN
}

// Its derivative, phi(x) + x density(x), with an absolute error of at most 3e-7.
template <class V>
[[gnu::always_inline]] inline V vector_gelu_slope(V x) {
  const Normal<V> normal = vector_normal(x);
  return normal.phi + (normal.density == 0.0f ? V{} : x * normal.density);
}

}  // namespace

}  // namespace xent::cpu
