// The templates behind loss_kernel.h, in the compiler's vector types (loss_avx2.cpp, loss_avx512.cpp).
//
// A row is read three times, from memory once: for the largest element m, for the sum of exp(x - m), which may be kept,
// and for the gradient. Bits depend on the row's elements only, not on where it lies in memory, nor on whether
// exponentials were kept.
#pragma once

#include <cstdint>

#include <xent/ops/cpu/loss_kernel.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int bytes>
struct LossVectors {
  static constexpr int lanes = bytes / 4;
  typedef float Floats __attribute__((vector_size(bytes)));
  typedef uint32_t Words __attribute__((vector_size(bytes)));
  typedef float FloatsAt __attribute__((vector_size(bytes), aligned(2), may_alias));  // anywhere in memory
  typedef uint32_t WordsAt __attribute__((vector_size(bytes), aligned(2), may_alias));

  static Floats load(const float* from) { return *reinterpret_cast<const FloatsAt*>(from); }
  static void store(float* to, Floats value) { *reinterpret_cast<FloatsAt*>(to) = value; }
  static Floats larger(Floats a, Floats b) { return a > b ? a : b; }
};

// Two vectors of logits at a time, in whatever order is cheap. A pair is of f32 ...
template <int bytes>
struct PairsOfF32 : LossVectors<bytes> {
  using Element = float;
  using typename LossVectors<bytes>::Floats;
  using LossVectors<bytes>::lanes;
  static constexpr Element lowest = -__builtin_inff();

  static void load_pair(const Element* x, Floats& a, Floats& b) {
    a = PairsOfF32::load(x);
    b = PairsOfF32::load(x + lanes);
  }
  static void store_pair(Element* y, Floats a, Floats b) {
    PairsOfF32::store(y, a);
    PairsOfF32::store(y + lanes, b);
  }
};

// ... or of bf16, the even elements and the odd ones: a float's upper half is its bf16.
template <int bytes>
struct PairsOfBF16 : LossVectors<bytes> {
  using Element = uint16_t;
  using typename LossVectors<bytes>::Floats;
  using typename LossVectors<bytes>::Words;
  using typename LossVectors<bytes>::WordsAt;
  static constexpr Element lowest = 0xff80;

  static void load_pair(const Element* x, Floats& a, Floats& b) {
    const Words both = *reinterpret_cast<const WordsAt*>(x);
    a = (Floats)(both << 16);  // casts between vector types keep the bits
    b = (Floats)(both & 0xffff0000u);
  }
  static void store_pair(Element* y, Floats a, Floats b) {
    *reinterpret_cast<WordsAt*>(y) = rounded(a) >> 16 | (rounded(b) & 0xffff0000u);
  }
  static Words rounded(Floats x) {  // to nearest, ties to even, in the upper half
    const Words word = (Words)x;
    return word + ((word >> 16 & 1u) + 0x7fffu);
  }
};

// exp(x) for x <= 0 within 1 ulp, subnormal results included: vector_exp has the method, and all floats.
template <class Vectors>
[[gnu::always_inline]] inline typename Vectors::Floats exp_below(typename Vectors::Floats x) {
  using Floats = typename Vectors::Floats;
  using Words = typename Vectors::Words;
  constexpr float shifter = 0x1.8p23f + 191;  // the lowest bits of a sum with it are n + 191, those of 2^(n + 64)
  const Floats lowest = Floats{} - 104;       // whose exponential is 0
  const Floats bounded = lowest > x ? lowest : x;
  const Floats shifted = bounded * 0x1.715476p0f + shifter;
  const Floats n = shifted - shifter;
  const Floats r = (bounded - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f;
  Floats power = r * 0x1.6a1fa8p-10f + 0x1.123a1ap-7f;
  power = power * r + 0x1.5558f8p-5f;
  power = power * r + 0x1.555492p-3f;
  power = power * r + 0x1.fffffcp-2f;
  power = power * r + 1.0f;
  power = power * r + 1.0f;
  return power * (Floats)((Words)shifted << 23) * 0x1p-64f;  // two factors: 2^n may be too small for a normal float
}

template <class Vectors>
[[gnu::always_inline]] inline float largest_lane(typename Vectors::Floats x) {
  float largest = x[0];
  for (int i = 1; i < Vectors::lanes; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// The elements of a row past its last whole pair, filled up.
template <class Pairs>
struct LastPair {
  static constexpr int64_t size = 2 * Pairs::lanes;
  typename Pairs::Element elements[size];

  LastPair(const typename Pairs::Element* x, int64_t count) {
    for (int64_t i = 0; i < size; ++i) elements[i] = Pairs::lowest;
    __builtin_memcpy(elements, x, static_cast<size_t>(count) * sizeof(*x));
  }
};

constexpr int64_t loss_block = 1024;  // classes whose exponentials are summed in f32, 16 to an accumulator at a time

template <class Pairs>
inline float block_max(const typename Pairs::Element* x, int64_t count) {
  using Floats = typename Pairs::Floats;
  constexpr int64_t pair = 2 * Pairs::lanes;
  Floats most[4], a, b;
  for (Floats& each : most) each = Floats{} - __builtin_inff();
  const auto see = [&](const typename Pairs::Element* from, int at) {
    Pairs::load_pair(from, a, b);
    most[at] = Pairs::larger(a, most[at]);
    most[at + 1] = Pairs::larger(b, most[at + 1]);
  };
  int64_t i = 0;
  for (; i + 2 * pair <= count; i += 2 * pair) {
    see(x + i, 0);
    see(x + i + pair, 2);
  }
  for (; i + pair <= count; i += pair) see(x + i, 0);
  if (i < count) see(LastPair<Pairs>(x + i, count - i).elements, 2);
  return largest_lane<Pairs>(Pairs::larger(Pairs::larger(most[0], most[1]), Pairs::larger(most[2], most[3])));
}

// Adds a block's exponentials to the sums of the lanes, in the block that has the largest element without those that
// are 1, and counts these.
template <class Pairs, bool has_largest>
inline int64_t add_block(const typename Pairs::Element* x, int64_t count, float max, float* kept, double* sums) {
  using Floats = typename Pairs::Floats;
  using Words = typename Pairs::Words;
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  Floats sum[4] = {};
  Words ones = {};
  const auto add = [&](Floats logits, int at, float* to) {
    const Floats power = exp_below<Pairs>(logits - max);
    if (to) Pairs::store(to, power);
    if constexpr (has_largest) ones -= (Words)(power >= 1.0f);
    sum[at] += has_largest ? (power >= 1.0f ? Floats{} : power) : power;
  };
  const auto add_pair = [&](const typename Pairs::Element* from, int64_t i, int at) {
    Floats a, b;
    Pairs::load_pair(from, a, b);
    add(a, at, kept ? kept + i : nullptr);
    add(b, at + 1, kept ? kept + i + lanes : nullptr);
  };
  int64_t i = 0;
  for (; i + 2 * pair <= count; i += 2 * pair) {
    add_pair(x + i, i, 0);
    add_pair(x + i + pair, i + pair, 2);
  }
  for (; i + pair <= count; i += pair) add_pair(x + i, i, 0);
  if (i < count) add_pair(LastPair<Pairs>(x + i, count - i).elements, i, 2);
  const Floats total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  int64_t number_of_ones = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    sums[lane] += static_cast<double>(total[lane]);
    if constexpr (has_largest) number_of_ones += ones[lane];
  }
  return number_of_ones;
}

template <class Pairs>
RowSum row_sum(const void* row, int64_t classes, float* kept) {
  const auto* x = static_cast<const typename Pairs::Element*>(row);
  const auto size = [=](int64_t begin) { return classes - begin < loss_block ? classes - begin : loss_block; };
  float max = -__builtin_inff();
  int64_t largest = 0;  // the first block that has the largest element
  for (int64_t begin = 0; begin < classes; begin += loss_block)
    if (const float most = block_max<Pairs>(x + begin, size(begin)); most > max) {
      max = most;
      largest = begin;
    }
  double sums[Pairs::lanes] = {};
  double ones = 0;
  for (int64_t begin = 0; begin < classes; begin += loss_block) {
    float* to = kept && begin < LossKernel::most_kept ? kept + begin : nullptr;
    __builtin_prefetch(x + begin + classes);
    if (begin == largest) ones += static_cast<double>(add_block<Pairs, true>(x + begin, size(begin), max, to, sums));
    else add_block<Pairs, false>(x + begin, size(begin), max, to, sums);
  }
  double sum = 0;
  for (const double lane : sums) sum += lane;
  return {max, ones + sum};
}

template <class Pairs>
void row_grad(const void* row, int64_t classes, float max, float factor, const float* kept, void* grad) {
  using Floats = typename Pairs::Floats;
  const auto* x = static_cast<const typename Pairs::Element*>(row);
  auto* dx = static_cast<typename Pairs::Element*>(grad);
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  if (factor != factor) factor = __builtin_nanf("");  // one whose bits can be rounded like a number's
  Floats a, b;
  const auto power = [&](const typename Pairs::Element* from) {
    Pairs::load_pair(from, a, b);
    a = exp_below<Pairs>(a - max);
    b = exp_below<Pairs>(b - max);
  };
  int64_t i = 0;
  const int64_t whole = classes / pair * pair;
  if (kept)
    for (; i < (whole < LossKernel::most_kept ? whole : LossKernel::most_kept); i += pair)
      Pairs::store_pair(dx + i, Pairs::load(kept + i) * factor, Pairs::load(kept + i + lanes) * factor);
  for (; i < whole; i += pair) {
    power(x + i);
    Pairs::store_pair(dx + i, a * factor, b * factor);
  }
  if (i == classes) return;
  LastPair<Pairs> last(x + i, classes - i);
  power(last.elements);
  Pairs::store_pair(last.elements, a * factor, b * factor);
  __builtin_memcpy(dx + i, last.elements, static_cast<size_t>(classes - i) * sizeof(*dx));
}

template <class Pairs>
constexpr LossKernel loss_kernel_of = {row_sum<Pairs>, row_grad<Pairs>};

}  // namespace

}  // namespace xent::cpu
