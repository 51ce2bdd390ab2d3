// The logarithm and the exponential that rows of few classes take in vectors.
#pragma once

#include <xent/ops/cpu/loss_vectors.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

// log(1 + x) for x in [0, 16) within 2 ulp. With 1 + x = 2^k (1 + g): k ln 2 + g + g^2 q(g), g in [sqrt(1/2), sqrt(2)).
// What the sum 1 + x loses is added to g. What 1 + x would lose in f64 is 0, as it is for long rows.
template <class Vectors>
inline typename Vectors::Floats log_1p(typename Vectors::Floats x) {
  using Floats = typename Vectors::Floats;
  using Words = typename Vectors::Words;
  const Floats sum = x + 1.0f, lost = x - (sum - 1.0f);
  const Words k = ((Words)sum - 0x3f3504f3u) >> 23;
  const Floats g = ((Floats)((Words)sum - (k << 23)) - 1.0f) + lost * (Floats)((127u - k) << 23);
  Floats q = g * -0x1.3a4e00p-4f + 0x1.048f92p-3f;
  q = q * g - 0x1.0cda96p-3f;
  q = q * g + 0x1.22ea5cp-3f;
  q = q * g - 0x1.54837ap-3f;
  q = q * g + 0x1.99a012p-3f;
  q = q * g - 0x1.00020cp-2f;
  q = q * g + 0x1.555554p-2f;
  q = q * g - 0x1.fffffep-2f;
  const Floats powers = __builtin_convertvector(k, Floats);
  const Floats log = powers * 0x1.63p-1f + (g + (q * (g * g) + powers * -0x1.bd0106p-13f));
  return x < 0x1p-53f ? Floats{} : log;
}

// exp(x) - 1 for x <= 0 within 2 ulp. With x = n ln 2 + r: 2^n (exp(r) - 1) + (2^n - 1), and exp(r) - 1 = r + r^2 q(r).
template <class Vectors>
inline typename Vectors::Floats exp_m1(typename Vectors::Floats x) {
  using Floats = typename Vectors::Floats;
  using Words = typename Vectors::Words;
  constexpr float shifter = 0x1.8p23f + 127;
  const Floats bounded = x < -80.0f ? Floats{} - 80 : x;  // NaN passes
  const Floats shifted = bounded * 0x1.715476p0f + shifter;
  const Floats n = shifted - shifter;
  const Floats r = (bounded - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f;
  Floats q = r * 0x1.6a1fa8p-10f + 0x1.123a1ap-7f;
  q = q * r + 0x1.5558f8p-5f;
  q = q * r + 0x1.555492p-3f;
  q = q * r + 0x1.fffffcp-2f;
  const Floats power = (Floats)((Words)shifted << 23);
  return power * (q * (r * r) + r) + (power - 1.0f);
}

}  // namespace

}  // namespace xent::cpu
