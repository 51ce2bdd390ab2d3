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

// What an instruction set adds: pick(table, at), the words of a table at the lowest bits of `at`; stream(to, words), a
// store past the caches to an aligned address, and finish_stream(), after which other threads see them.
template <int bytes>
struct LossVectors {
  static constexpr int lanes = bytes / 4;
  typedef float Floats __attribute__((vector_size(bytes)));
  typedef uint32_t Words __attribute__((vector_size(bytes)));
  typedef float FloatsAt __attribute__((vector_size(bytes), aligned(2), may_alias));  // anywhere in memory
  typedef uint32_t WordsAt __attribute__((vector_size(bytes), aligned(2), may_alias));

  typedef uint16_t HalvesAt __attribute__((vector_size(bytes / 2), aligned(2), may_alias));

  static Floats load(const float* from) { return *reinterpret_cast<const FloatsAt*>(from); }
  static void store(float* to, Floats value) { *reinterpret_cast<FloatsAt*>(to) = value; }
  static Floats larger(Floats a, Floats b) { return a > b ? a : b; }
  static Words numbered(uint32_t first, uint32_t step) {  // first, first + step, ...
    alignas(bytes) uint32_t lane[lanes];
    for (int i = 0; i < lanes; ++i) lane[i] = first + step * static_cast<uint32_t>(i);
    return *reinterpret_cast<const WordsAt*>(lane);
  }
};

// Two vectors of logits at a time, in whatever order is cheap: `first` and `step` say which elements are in the second
// vector, and how far apart those of a vector are. A pair is of f32 ...
template <class Vectors>
struct PairsOfF32 : Vectors {
  using Element = float;
  using typename Vectors::Floats;
  using typename Vectors::Words;
  using Vectors::lanes;
  static constexpr uint32_t first = lanes, step = 1;
  static constexpr Element lowest = -__builtin_inff();

  static void load_pair(const Element* x, Floats& a, Floats& b) {
    a = PairsOfF32::load(x);
    b = PairsOfF32::load(x + lanes);
  }
  static void store_pair(Element* y, Floats a, Floats b) {
    PairsOfF32::store(y, a);
    PairsOfF32::store(y + lanes, b);
  }
  static void stream_pair(Element* y, Floats a, Floats b) {
    PairsOfF32::stream(y, (Words)a);
    PairsOfF32::stream(y + lanes, (Words)b);
  }
  static Floats widened(const Element* x) { return PairsOfF32::load(x); }  // in order
  static void narrow(Element* y, Floats value) { PairsOfF32::store(y, value); }
};

// ... or of f16, converted by instructions of their own.
template <class Vectors>
struct PairsOfF16 : Vectors {
  using Element = uint16_t;
  using typename Vectors::Floats;
  using typename Vectors::Words;
  static constexpr uint32_t first = Vectors::lanes, step = 1;
  static constexpr Element lowest = 0xfc00;

  static void load_pair(const Element* x, Floats& a, Floats& b) {
    a = PairsOfF16::widened(x);
    b = PairsOfF16::widened(x + Vectors::lanes);
  }
  static void store_pair(Element* y, Floats a, Floats b) {
    PairsOfF16::narrow(y, a);
    PairsOfF16::narrow(y + Vectors::lanes, b);
  }
  static void stream_pair(Element* y, Floats a, Floats b) {
    alignas(64) Element line[2 * Vectors::lanes];
    store_pair(line, a, b);
    Words words;
    __builtin_memcpy(&words, line, sizeof(words));
    PairsOfF16::stream(y, words);
  }
};

// ... or of bf16, the even elements and the odd ones: a float's upper half is its bf16.
template <class Vectors>
struct PairsOfBF16 : Vectors {
  using Element = uint16_t;
  using typename Vectors::Floats;
  using typename Vectors::HalvesAt;
  using typename Vectors::Words;
  using typename Vectors::WordsAt;
  static constexpr uint32_t first = 1, step = 2;
  static constexpr Element lowest = 0xff80;

  static void load_pair(const Element* x, Floats& a, Floats& b) {
    const Words both = *reinterpret_cast<const WordsAt*>(x);
    a = (Floats)(both << 16);  // casts between vector types keep the bits
    b = (Floats)(both & 0xffff0000u);
  }
  static void store_pair(Element* y, Floats a, Floats b) { *reinterpret_cast<WordsAt*>(y) = rounded_pair(a, b); }
  static void stream_pair(Element* y, Floats a, Floats b) { PairsOfBF16::stream(y, rounded_pair(a, b)); }
  static Words rounded_pair(Floats a, Floats b) { return rounded(a) >> 16 | (rounded(b) & 0xffff0000u); }
  static Floats widened(const Element* x) {
    return (Floats)(__builtin_convertvector(*reinterpret_cast<const HalvesAt*>(x), Words) << 16);
  }
  static void narrow(Element* y, Floats value) {
    *reinterpret_cast<HalvesAt*>(y) = __builtin_convertvector(rounded(value) >> 16, HalvesAt);
  }
  static Words rounded(Floats x) {  // to nearest, ties to even, in the upper half
    const Words word = (Words)x;
    return word + ((word >> 16 & 1u) + 0x7fffu);
  }
};

// 2^(j/16) as a float's bits.
constexpr uint32_t powers_of_two[16] = {0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3, 0x3f9837f0, 0x3f9ef532,
                                        0x3fa5fed7, 0x3fad583f, 0x3fb504f3, 0x3fbd08a4, 0x3fc5672a, 0x3fce248c,
                                        0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d};

// 2^26 exp(x) for x <= 0 within 1 ulp down to -105.3, and 0 below -106.1. So scaled no result is subnormal, and a
// product with it rounds only once. x log2 e = n + j/16 + f with |f| <= 1/32 (eighths with 8 lanes), and 2^f - 1 = f
// q(f), q of the least relative error for its degree: 2^n is added to the exponent of 2^(j/16), which a register holds.
// An f that rounds once takes a fused multiply-add.
constexpr float exp_scale = 0x1p26f;

template <class Vectors>
[[gnu::always_inline]] inline typename Vectors::Floats scaled_exp(typename Vectors::Floats x) {
  using Floats = typename Vectors::Floats;
  using Words = typename Vectors::Words;
  constexpr uint32_t parts = Vectors::lanes, shift = parts == 16 ? 19 : 20;
  // The lowest bits of a sum with it are j, and above them n + 26.
  constexpr float shifter = 1.5f * static_cast<float>(1 << shift) + 26;
  alignas(sizeof(Words)) uint32_t table[parts];
  for (uint32_t j = 0; j < parts; ++j) table[j] = powers_of_two[j * 16 / parts] - (j << shift);
  const Floats lowest = Floats{} - 106.05113f;     // 153 ln 2, which gives an exponent and a j of 0
  const Floats bounded = lowest > x ? lowest : x;  // NaN passes
  const Floats shifted = bounded * 0x1.715476p0f + shifter;
  const Floats f = bounded * 0x1.715476p0f - (shifted - shifter);
  const Words bits = (Words)shifted;
  const Floats power = (Floats)(Vectors::pick(*reinterpret_cast<const Words*>(table), bits) + (bits << shift));
  if constexpr (parts == 16) {
    const Floats q = (f * 0x1.c6b29ap-5f + 0x1.ebff92p-3f) * f + 0x1.62e430p-1f;
    return power * (f * q) + power;
  } else {
    const Floats q = ((f * 0x1.3b2fc4p-7f + 0x1.c6bb7ap-5f) * f + 0x1.ebfbe0p-3f) * f + 0x1.62e430p-1f;
    return power * (f * q) + power;
  }
}

// A row shorter than a pair, filled up.
template <class Pairs>
struct ShortRow {
  static constexpr int64_t size = 2 * Pairs::lanes;
  typename Pairs::Element elements[size] = {};

  ShortRow(const typename Pairs::Element* x, int64_t count) {
    for (int64_t i = 0; i < size; ++i) elements[i] = i < count ? x[i] : Pairs::lowest;
  }
};

// Adds up, or takes the largest of, so many numbers, in halves.
template <int count, class T, class Combine>
inline T fold(T* values, const Combine& combine) {
#pragma GCC unroll 4
  for (int half = count / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) values[i] = combine(values[i], values[i + half]);
  return values[0];
}

constexpr int64_t loss_block = 1024;  // classes whose exponentials are summed in f32, at most 16 by one lane

// The functions for a block want its row to be at least a pair long: elements past the last whole pair are read with
// those before them.
template <class Pairs>
inline float block_max(const typename Pairs::Element* x, int64_t count) {
  using Floats = typename Pairs::Floats;
  constexpr int64_t pair = 2 * Pairs::lanes;
  Floats most[4], a, b;
  for (Floats& each : most) each = Floats{} - __builtin_inff();
  const auto see = [&](const typename Pairs::Element* from, int at) {
    Pairs::load_pair(from, a, b);
    most[at] = Pairs::larger(a, most[at]);  // NaN loses
    most[at + 1] = Pairs::larger(b, most[at + 1]);
  };
  int64_t i = 0;
  for (; i + 2 * pair <= count; i += 2 * pair) {
    see(x + i, 0);
    see(x + i + pair, 2);
  }
  for (; i + pair <= count; i += pair) see(x + i, 0);
  if (i < count) see(x + count - pair, 2);
  float lane[Pairs::lanes];
  Pairs::store(lane, Pairs::larger(Pairs::larger(most[0], most[1]), Pairs::larger(most[2], most[3])));
  return fold<Pairs::lanes>(lane, [](float p, float q) { return p > q ? p : q; });
}

// Adds a block's exponentials to the sums of the lanes, in the block that has the largest element without those that
// are 1, and counts these. Asks for the next row meanwhile.
template <class Pairs, bool has_largest>
inline int32_t add_block(const typename Pairs::Element* x, int64_t count, float max, float* kept, int64_t to_next,
                         double* sums) {
  using Floats = typename Pairs::Floats;
  using Words = typename Pairs::Words;
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  Floats sum[4] = {}, a, b;
  Words ones = {};
  const auto add = [&](Floats power, int at) {
    if constexpr (has_largest) {
      const auto one = power >= exp_scale;
      ones -= (Words)one;
      power = one ? Floats{} : power;
    }
    sum[at] += power;
  };
  const auto exp_pair = [&](const typename Pairs::Element* from, int64_t i) {
    Pairs::load_pair(from, a, b);
    a = scaled_exp<Pairs>(a - max);
    b = scaled_exp<Pairs>(b - max);
    if (!kept) return;
    Pairs::store(kept + i, a);
    Pairs::store(kept + i + lanes, b);
  };
  const auto add_pair = [&](int64_t i, int at) {
    const auto next = reinterpret_cast<uintptr_t>(x + i) + static_cast<uintptr_t>(to_next);
    __builtin_prefetch(reinterpret_cast<const void*>(next), 0, 2);
    if constexpr (sizeof(typename Pairs::Element) * pair > 64)
      __builtin_prefetch(reinterpret_cast<const void*>(next + 64), 0, 2);
    exp_pair(x + i, i);
    add(a, at);
    add(b, at + 1);
  };
  int64_t i = 0;
  for (; i + 2 * pair <= count; i += 2 * pair) {
    add_pair(i, 0);
    add_pair(i + pair, 2);
  }
  for (; i + pair <= count; i += pair) add_pair(i, 0);
  if (i < count) {
    exp_pair(x + count - pair, i);
    const Words seen = Words{} + static_cast<uint32_t>(i + pair - count);
    add(Pairs::numbered(0, Pairs::step) < seen ? Floats{} : a, 2);
    add(Pairs::numbered(Pairs::first, Pairs::step) < seen ? Floats{} : b, 3);
  }
  const Floats total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  int32_t number_of_ones = 0;
  for (int lane = 0; lane < lanes; ++lane) {
    sums[lane] += static_cast<double>(total[lane]);
    if constexpr (has_largest) number_of_ones += static_cast<int32_t>(ones[lane]);
  }
  return number_of_ones;
}

template <class Pairs>
RowSum long_row_sum(const typename Pairs::Element* x, int64_t classes, float* kept) {
  const auto size = [=](int64_t begin) { return classes - begin < loss_block ? classes - begin : loss_block; };
  float max = -__builtin_inff();
  int64_t largest = 0;  // the first block that has the largest element
  for (int64_t begin = 0; begin < classes; begin += loss_block)
    if (const float most = block_max<Pairs>(x + begin, size(begin)); most > max) {
      max = most;
      largest = begin;
    }
  double sums[Pairs::lanes] = {};
  int32_t ones = 0;
  const int64_t to_next = classes * static_cast<int64_t>(sizeof(*x));
  for (int64_t begin = 0; begin < classes; begin += loss_block) {
    float* to = kept && begin < LossKernel::most_kept ? kept + begin : nullptr;
    if (begin == largest) ones = add_block<Pairs, true>(x + begin, size(begin), max, to, to_next, sums);
    else add_block<Pairs, false>(x + begin, size(begin), max, to, to_next, sums);
  }
  const double sum = fold<Pairs::lanes>(sums, [](double p, double q) { return p + q; });
  return {max, static_cast<double>(ones) + sum / static_cast<double>(exp_scale)};
}

template <class Pairs, bool stream, class Element = typename Pairs::Element>
void long_row_grad(const Element* x, int64_t classes, float max, float factor, const float* kept, Element* dx) {
  using Floats = typename Pairs::Floats;
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  factor /= exp_scale;
  const int64_t whole = classes / pair * pair;
  const int64_t from_kept = !kept ? 0 : whole < LossKernel::most_kept ? whole : LossKernel::most_kept;
  const auto powers = [&](const typename Pairs::Element* from, Floats& a, Floats& b) {
    Pairs::load_pair(from, a, b);
    a = scaled_exp<Pairs>(a - max) * factor;
    b = scaled_exp<Pairs>(b - max) * factor;
  };
  Floats a, b, last_a, last_b;  // the last pair overlaps the one before, and dx may be x: so it is read first
  if (kept && whole < classes && whole < LossKernel::most_kept) {
    last_a = Pairs::load(kept + whole) * factor;
    last_b = Pairs::load(kept + whole + lanes) * factor;
  } else {
    powers(x + classes - pair, last_a, last_b);
  }
  const auto put = [](Element* to, Floats p, Floats q) {
    if constexpr (stream) Pairs::stream_pair(to, p, q);
    else Pairs::store_pair(to, p, q);
  };
  int64_t i = 0;
  for (; i < from_kept; i += pair) put(dx + i, Pairs::load(kept + i) * factor, Pairs::load(kept + i + lanes) * factor);
  for (; i < whole; i += pair) {
    powers(x + i, a, b);
    put(dx + i, a, b);
  }
  if constexpr (stream) Pairs::finish_stream();
  else Pairs::store_pair(dx + classes - pair, last_a, last_b);
}

template <class Pairs>
RowSum row_sum(const void* row, int64_t classes, float* kept) {
  const auto* x = static_cast<const typename Pairs::Element*>(row);
  if (classes >= 2 * Pairs::lanes) return long_row_sum<Pairs>(x, classes, kept);
  const ShortRow<Pairs> filled(x, classes);
  return long_row_sum<Pairs>(filled.elements, filled.size, kept);
}

template <class Pairs>
void row_grad(const void* row, int64_t classes, float max, float factor, const float* kept, bool stream, void* grad) {
  const auto* x = static_cast<const typename Pairs::Element*>(row);
  auto* dx = static_cast<typename Pairs::Element*>(grad);
  constexpr int64_t pair = 2 * Pairs::lanes;
  if (stream && classes % pair == 0 && reinterpret_cast<uintptr_t>(dx) % 64 == 0)
    return long_row_grad<Pairs, true>(x, classes, max, factor, kept, dx);
  if (classes >= pair) return long_row_grad<Pairs, false>(x, classes, max, factor, kept, dx);
  ShortRow<Pairs> filled(x, classes);
  long_row_grad<Pairs, false>(filled.elements, filled.size, max, factor, kept, filled.elements);
  for (int64_t i = 0; i < classes; ++i) dx[i] = filled.elements[i];
}

}  // namespace

}  // namespace xent::cpu
