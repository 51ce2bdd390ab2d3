// The arithmetic of a row of logits x:
//
//   m = max_c x_c   rest = sum of exp(x_c - m) over all classes but one of the largest   log s = log(1 + rest)
//   surprise_c = log s - (x_c - m)                dx_c = k p_c - t_c,   p_c = exp((x_c - m) - log s)
//
// The largest logit's exponential is exactly 1, so it need not be in the sum; without it a row that is all but certain
// keeps the digits of its small loss. All of it is in f32, f64 for f64. One exponential per logit in either direction.
#pragma once

#include <cmath>

#include <xent/cuda/loss_target.cuh>

namespace xent::cuda {

// The type that arithmetic on T is done in.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

__device__ inline float widened(float x) { return x; }
__device__ inline double widened(double x) { return x; }
__device__ inline float widened(BFloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ inline float widened(Float16 x) {
  __half_raw bits;
  bits.x = x.bits;
  return __half2float(bits);
}

// Rounds once.
template <class T>
__device__ T narrowed(Wide<T> x) {
  if constexpr (std::is_same_v<T, Float16>) return T::from_bits(static_cast<__half_raw>(__float2half_rn(x)).x);
  else if constexpr (std::is_same_v<T, BFloat16>)
    return T::from_bits(static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(x)).x);
  else return x;
}

// exp of what is at most 0, but for log-probabilities that stand for logits. On a GPU a power of two is one
// instruction.
__device__ inline float exp_of(float x) { return std::exp2(x * 1.44269504f); }
__device__ inline double exp_of(double x) { return std::exp(x); }
__device__ inline float exp_minus_1(float x) { return std::expm1(x); }
__device__ inline double exp_minus_1(double x) { return std::expm1(x); }
__device__ inline float log_of_1_plus(float x) { return std::log1p(x); }
__device__ inline double log_of_1_plus(double x) {
  const double sum = 1 + x, log = std::log(sum);
  return log + (x - (sum - 1)) * static_cast<double>(exp_of(static_cast<float>(-log)));  // what the sum has lost
}

// What a row's logits have come to so far, in any order. S: the type of the sum.
template <class W, class S = W>
struct RowSum {
  W max = -INFINITY;
  S rest = -1;  // no logit yet: 1 + rest is the sum of the exponentials

  __device__ void add(W x) {
    const W above = x == max ? W(0) : x - max;  // -inf twice would be NaN; NaN stays in the sum
    const S e = static_cast<S>(exp_of(-std::abs(above)));
    rest = above > 0 ? std::fma(rest, e, e) : rest + e;
    max = above > 0 ? x : max;
  }

  // Adds several at once: their largest first.
  template <int count>
  __device__ void add(const W (&x)[count]) {
    W most = x[0];
#pragma unroll
    for (int i = 1; i < count; ++i) most = std::fmax(most, x[i]);
    const bool above = most > max;
    most = above ? most : max;
    const W from = most == -INFINITY ? W(0) : most;
    S sum = 0;
#pragma unroll
    for (int i = 0; i < count; ++i) sum += static_cast<S>(exp_of(x[i] - from));
    const S e = static_cast<S>(exp_of(max - from));
    rest = (above ? std::fma(rest, e, e) - 1 : rest) + sum;
    max = most;
  }

  // The same bits whichever of the two is which.
  template <class Other>
  __device__ void add(const RowSum<W, Other>& other) {
    const bool above = max > other.max || (max == other.max && rest >= static_cast<S>(other.rest));
    const W difference = max == other.max ? W(0) : max - other.max;
    const S e = static_cast<S>(exp_of(-std::abs(difference)));
    const S larger = above ? rest : static_cast<S>(other.rest), smaller = above ? static_cast<S>(other.rest) : rest;
    rest = larger + std::fma(smaller, e, e);
    max = above ? max : other.max;
  }

  // NaN for a row with +inf or NaN, or of nothing but -inf, as IEEE has it.
  __device__ W log_sum() const { return log_of_1_plus(static_cast<W>(rest)) + (max - max); }
};

// The sum over `lanes` neighbours of a warp; every one gets it.
template <int lanes, class W, class S>
__device__ RowSum<W, S> merged(RowSum<W, S> sum) {
#pragma unroll
  for (int bits = lanes / 2; bits > 0; bits /= 2) {
    const W max = __shfl_xor_sync(0xffffffffu, sum.max, bits);
    sum.add(RowSum<W, S>{max, __shfl_xor_sync(0xffffffffu, sum.rest, bits)});
  }
  return sum;
}

// The pair that forward keeps of a row.
template <class W>
struct RowPair {
  W max = 0, log_sum = 0;

  __device__ W log_prob(W x) const { return (x - max) - log_sum; }
  __device__ W surprise(W x) const { return log_sum - (x - max); }
};

// The gradient of a row with an index that all classes but its own weigh the same in: one function for every kernel, so
// that forward and backward write the same bits.
template <class W>
struct RowGrad {
  RowPair<W> pair;
  W share = 0, spread = 0;  // k, and t of the other classes
  W at_label = 0;
  bool filled = false;  // by at_label, without reading

  __device__ RowGrad(const LossTarget& target, const TargetRow& row, RowPair<W> of_row, W label_logit, double upstream)
      : pair(of_row) {
    if (row.poisoned || row.skipped) {
      filled = true;
      at_label = row.poisoned ? static_cast<W>(NAN) : W(0);
    } else if (!target.smoothed()) {
      share = static_cast<W>(target.label_share(row, upstream));
      at_label = share * exp_minus_1(pair.log_prob(label_logit));  // p - 1 would lose what p is short of 1 by
    } else {
      share = static_cast<W>(target.exact ? upstream * target.label_mass(row, static_cast<double>(target.classes()))
                                          : upstream);
      spread = static_cast<W>(upstream * target.spread);
      at_label = std::fma(share, exp_of(pair.log_prob(label_logit)),
                          -static_cast<W>(upstream * (target.kept + target.spread)));
    }
  }

  __device__ W operator()(bool is_label, W x) const { return filled || is_label ? at_label : of_other(x); }
  __device__ W of_other(W x) const { return std::fma(share, exp_of(pair.log_prob(x)), -spread); }
};

}  // namespace xent::cuda
