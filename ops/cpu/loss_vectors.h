// Vectors of logits and of their exponentials, in the compiler's vector types: what the loops of loss_loops.h and
// loss_groups.h are written in.
#pragma once

#include <cstdint>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

// What an instruction set adds: larger(a, b), which is a > b ? a : b by one instruction; pick(table, at), the words of
// a table at the lowest bits of `at`; stream(to, words), a store past the caches to an aligned address, and
// finish_stream(), after which other threads see them.
template <int bytes>
struct LossVectors {
  static constexpr int lanes = bytes / 4;
  typedef float Floats __attribute__((vector_size(bytes)));
  typedef uint32_t Words __attribute__((vector_size(bytes)));
  typedef double Doubles __attribute__((vector_size(bytes)));
  typedef float HalfFloats __attribute__((vector_size(bytes / 2)));  // as many as Doubles
  typedef uint16_t Halves __attribute__((vector_size(bytes / 2)));

  // From and to anywhere in memory.
  template <class Vector>
  static Vector read(const void* from) {
    Vector vector;
    __builtin_memcpy(&vector, from, sizeof(vector));
    return vector;
  }
  template <class Vector>
  static void write(void* to, Vector vector) {
    __builtin_memcpy(to, &vector, sizeof(vector));
  }
  static Floats load(const float* from) { return read<Floats>(from); }
  static void store(float* to, Floats value) { write(to, value); }
  static Words numbered(uint32_t first, uint32_t step) {  // first, first + step, ...
    uint32_t lane[lanes];
    for (int i = 0; i < lanes; ++i) lane[i] = first + step * static_cast<uint32_t>(i);
    return read<Words>(lane);
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
  static constexpr bool in_order = true;
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
  static constexpr bool in_order = true;
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
    PairsOfF16::stream(y, PairsOfF16::template read<Words>(line));
  }
};

// ... or of bf16, the even elements and the odd ones: a float's upper half is its bf16.
template <class Vectors>
struct PairsOfBF16 : Vectors {
  using Element = uint16_t;
  using typename Vectors::Floats;
  using typename Vectors::Halves;
  using typename Vectors::Words;
  static constexpr uint32_t first = 1, step = 2;
  static constexpr bool in_order = false;
  static constexpr Element lowest = 0xff80;

  static void load_pair(const Element* x, Floats& a, Floats& b) {
    const auto both = PairsOfBF16::template read<Words>(x);
    a = (Floats)(both << 16);  // casts between vector types keep the bits
    b = (Floats)(both & 0xffff0000u);
  }
  static void store_pair(Element* y, Floats a, Floats b) { PairsOfBF16::write(y, rounded_pair(a, b)); }
  static void stream_pair(Element* y, Floats a, Floats b) { PairsOfBF16::stream(y, rounded_pair(a, b)); }
  static Words rounded_pair(Floats a, Floats b) { return rounded(a) >> 16 | (rounded(b) & 0xffff0000u); }
  static Floats widened(const Element* x) {
    return (Floats)(__builtin_convertvector(PairsOfBF16::template read<Halves>(x), Words) << 16);
  }
  static void narrow(Element* y, Floats value) {
    PairsOfBF16::write(y, __builtin_convertvector(rounded(value) >> 16, Halves));
  }
  static Words rounded(Floats x) {  // to nearest, ties to even, in the upper half
    const Words word = (Words)x;
    return word + ((word >> 16 & 1u) + 0x7fffu);
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

// Where the exponentials of the last pair are kept, if it overlaps the one before.
template <class Pairs>
int64_t last_kept(int64_t classes) {
  constexpr int64_t pair = 2 * Pairs::lanes;
  return Pairs::in_order ? classes - pair : classes / pair * pair;
}

// A sum in f64 of every lane of vectors.
template <class Vectors>
struct WideSum {
  using Doubles = typename Vectors::Doubles;
  using HalfFloats = typename Vectors::HalfFloats;
  static constexpr int lanes = Vectors::lanes;
  Doubles low = {}, high = {};

  void add(typename Vectors::Floats value) {
    float lane[lanes];
    Vectors::store(lane, value);
    low += __builtin_convertvector(Vectors::template read<HalfFloats>(lane), Doubles);
    high += __builtin_convertvector(Vectors::template read<HalfFloats>(lane + lanes / 2), Doubles);
  }
  double total() const {
    double lane[lanes / 2];
    Vectors::write(lane, low + high);
    return fold<lanes / 2>(lane, [](double p, double q) { return p + q; });
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
  uint32_t table[parts];
  for (uint32_t j = 0; j < parts; ++j) table[j] = powers_of_two[j * 16 / parts] - (j << shift);
  const Floats lowest = Floats{} - 106.05113f;        // 153 ln 2, which gives an exponent and a j of 0
  const Floats bounded = Vectors::larger(lowest, x);  // NaN passes
  const Floats shifted = bounded * 0x1.715476p0f + shifter;
  const Floats f = bounded * 0x1.715476p0f - (shifted - shifter);
  const Words bits = (Words)shifted;
  const Floats power = (Floats)(Vectors::pick(Vectors::template read<Words>(table), bits) + (bits << shift));
  if constexpr (parts == 16) {
    const Floats q = (f * 0x1.c6b29ap-5f + 0x1.ebff92p-3f) * f + 0x1.62e430p-1f;
    return power * (f * q) + power;
  } else {
    const Floats q = ((f * 0x1.3b2fc4p-7f + 0x1.c6bb7ap-5f) * f + 0x1.ebfbe0p-3f) * f + 0x1.62e430p-1f;
    return power * (f * q) + power;
  }
}

}  // namespace

}  // namespace xent::cpu
