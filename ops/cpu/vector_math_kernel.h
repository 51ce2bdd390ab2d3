// Elementary functions on vectors of floats: no table, no branch, every input.
//
//   typedef float Floats __attribute__((vector_size(64)));  // 4, 8 or 16 lanes
//   Floats y = vector_exp(x);
//
// Templates in the compiler's vector types, compiled once per instruction set. A lane's bits do not depend on the
// others, nor on how many lanes there are; with a fused multiply-add (-ffp-contract=fast) the last bit may be another
// one. Errors are in units of the result's last place (ulp), measured over every float there is.
#pragma once

#include <cstdint>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

// The vector of 32-bit integers with as many lanes: what comparing two vectors of floats gives.
template <class V>
using IntegersOf = decltype(V{} < V{});

// exp(x + tail) where the tail is small beside x, and at most 1: digits of x that a float has no room for.
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

// exp(x) within 1 ulp, subnormal results included; exp(-inf) = 0.
template <class V>
[[gnu::always_inline]] inline V vector_exp(V x) {
  return vector_exp(x, V{});
}

}  // namespace

}  // namespace xent::cpu
