// The templates behind loss_kernel.h for one row (loss_avx2.cpp, loss_avx512.cpp).
//
// A row is read three times, from memory once: for the largest element m, for the sum of exp(x - m), which may be kept,
// and for the gradient. Bits depend on the row's elements only, not on where it lies in memory, nor on whether
// exponentials were kept.
#pragma once

#include <xent/ops/cpu/loss_kernel.h>
#include <xent/ops/cpu/loss_vectors.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

// A row shorter than a pair, filled up.
template <class Pairs>
struct ShortRow {
  static constexpr int64_t size = 2 * Pairs::lanes;
  typename Pairs::Element elements[size];

  ShortRow(const typename Pairs::Element* x, int64_t count) {
    for (typename Pairs::Element& element : elements) element = Pairs::lowest;
    for (int64_t i = 0; i < count; ++i) elements[i] = x[i];
  }
};

constexpr int64_t loss_block = 256;  // classes whose exponentials are summed in f32, at most 32 by one lane

// The largest element of every lane so far, and the first block that has it.
template <class Pairs>
struct LaneMaxima {
  using Floats = typename Pairs::Floats;
  using Words = typename Pairs::Words;
  Floats most = Floats{} - __builtin_inff();
  Words block = {};

  // Sees a block of whole pairs.
  void see(const typename Pairs::Element* x, int64_t count, uint32_t number) {
    constexpr int64_t pair = 2 * Pairs::lanes;
    Floats a, b, c, d, most_a = most, most_b = most, most_c = most, most_d = most;
    int64_t i = 0;
    for (; i + 2 * pair <= count; i += 2 * pair) {
      Pairs::load_pair(x + i, a, b);
      Pairs::load_pair(x + i + pair, c, d);
      most_a = Pairs::larger(a, most_a);  // NaN loses
      most_b = Pairs::larger(b, most_b);
      most_c = Pairs::larger(c, most_c);
      most_d = Pairs::larger(d, most_d);
    }
    if (i < count) {
      Pairs::load_pair(x + i, a, b);
      most_a = Pairs::larger(a, most_a);
      most_b = Pairs::larger(b, most_b);
    }
    most_a = Pairs::larger(Pairs::larger(most_a, most_b), Pairs::larger(most_c, most_d));
    block = most_a > most ? Words{} + number : block;
    most = most_a;
  }
  float max() const {
    float lane[Pairs::lanes];
    Pairs::store(lane, most);
    return fold<Pairs::lanes>(lane, [](float p, float q) { return p > q ? p : q; });
  }
  uint32_t block_of(float max) const {
    const Words having = most == max ? block : Words{} + 0xffffffffu;
    uint32_t lane[Pairs::lanes];
    Pairs::write(lane, having);
    return fold<Pairs::lanes>(lane, [](uint32_t p, uint32_t q) { return p < q ? p : q; });
  }
};

// The sum of exponentials, of which those that are 1 are counted apart where the largest element is: what is short of 1
// in the others keeps its digits.
template <class Pairs>
struct ExpSum {
  using Floats = typename Pairs::Floats;
  WideSum<Pairs> sum;
  Floats ones = {};

  void add(Floats others, Floats with_ones) {
    sum.add(others);
    ones += (with_ones - others) * (1 / exp_scale);
  }
  double total() const {
    constexpr float shifter = 0x1.8p23f;  // makes a number whole
    float lane[Pairs::lanes];
    Pairs::store(lane, ones);
    const float count = (fold<Pairs::lanes>(lane, [](float p, float q) { return p + q; }) + shifter) - shifter;
    return static_cast<double>(count) + sum.total() / static_cast<double>(exp_scale);
  }
};

// Asks for so many bytes of the next row: into the first-level cache if a row leaves room for others there.
template <int bytes>
inline void ask_for(const void* here, int64_t to_next) {
  const auto next = reinterpret_cast<uintptr_t>(here) + static_cast<uintptr_t>(to_next);
  for (uintptr_t line = next; line < next + bytes; line += 64)
    if (to_next <= 8192) __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 3);
    else __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
}

// Adds the exponentials of a block of whole pairs, and keeps them unless `kept` is null. Asks for the next row
// meanwhile.
template <class Pairs, bool has_largest>
[[gnu::always_inline]] inline void add_block(const typename Pairs::Element* x, int64_t count, float max, float* kept,
                                             int64_t to_next, ExpSum<Pairs>& sums) {
  using Floats = typename Pairs::Floats;
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  Floats sum_a = {}, sum_b = {}, with_ones = {}, a, b;
  for (int64_t i = 0; i < count; i += pair) {
    ask_for<sizeof(typename Pairs::Element) * pair>(x + i, to_next);
    Pairs::load_pair(x + i, a, b);
    a = scaled_exp<Pairs>(a - max);
    b = scaled_exp<Pairs>(b - max);
    if (kept) {
      Pairs::store(kept + i, a);
      Pairs::store(kept + i + lanes, b);
    }
    if constexpr (has_largest) {
      with_ones += a + b;
      sum_a = a >= exp_scale ? sum_a : sum_a + a;  // NaN is added
      sum_b = b >= exp_scale ? sum_b : sum_b + b;
    } else {
      sum_a += a;
      sum_b += b;
    }
  }
  if constexpr (has_largest) sums.add(sum_a + sum_b, with_ones);
  else sums.sum.add(sum_a + sum_b);
}

// A row of at least a pair. Elements past the last whole pair are read with those before them, and before anything is
// written, for the exponentials may be kept in the row's own place.
template <class Pairs>
RowSum long_row_sum(const typename Pairs::Element* x, int64_t classes, Kept kept) {
  using Floats = typename Pairs::Floats;
  using Words = typename Pairs::Words;
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  const int64_t whole = classes / pair * pair;
  const auto size = [=](int64_t begin) { return whole - begin < loss_block ? whole - begin : loss_block; };
  LaneMaxima<Pairs> maxima;
  uint32_t block = 0;
  for (int64_t begin = 0; begin < whole; begin += loss_block) maxima.see(x + begin, size(begin), block++);
  if (whole < classes) maxima.see(x + classes - pair, pair, block);
  const float max = maxima.max();
  const int64_t largest = loss_block * static_cast<int64_t>(maxima.block_of(max));

  ExpSum<Pairs> sums;
  Floats last_a = {}, last_b = {};
  if (whole < classes) {
    Pairs::load_pair(x + classes - pair, last_a, last_b);
    last_a = scaled_exp<Pairs>(last_a - max);
    last_b = scaled_exp<Pairs>(last_b - max);
    const Words seen = Words{} + static_cast<uint32_t>(whole + pair - classes);
    const Floats a = Pairs::numbered(0, Pairs::step) < seen ? Floats{} : last_a;
    const Floats b = Pairs::numbered(Pairs::first, Pairs::step) < seen ? Floats{} : last_b;
    sums.add((a >= exp_scale ? Floats{} : a) + (b >= exp_scale ? Floats{} : b), a + b);
  }
  const int64_t to_next = classes * static_cast<int64_t>(sizeof(*x));
  for (int64_t begin = 0; begin < whole; begin += loss_block) {
    float* to = begin < kept.room ? kept.at + begin : nullptr;
    if (begin == largest) add_block<Pairs, true>(x + begin, size(begin), max, to, to_next, sums);
    else add_block<Pairs, false>(x + begin, size(begin), max, to, to_next, sums);
  }
  if (const int64_t at = last_kept<Pairs>(classes); whole < classes && at < kept.room) {
    Pairs::store(kept.at + at, last_a);
    Pairs::store(kept.at + at + lanes, last_b);
  }
  return {max, sums.total()};
}

template <class Pairs, bool stream, class Element = typename Pairs::Element>
void long_row_grad(const Element* x, int64_t classes, float max, float factor, Kept kept, Element* dx) {
  using Floats = typename Pairs::Floats;
  constexpr int64_t lanes = Pairs::lanes, pair = 2 * lanes;
  factor /= exp_scale;
  const int64_t whole = classes / pair * pair, from_kept = whole < kept.room ? whole : kept.room;
  const auto powers = [&](const Element* from, Floats& a, Floats& b) {
    Pairs::load_pair(from, a, b);
    a = scaled_exp<Pairs>(a - max) * factor;
    b = scaled_exp<Pairs>(b - max) * factor;
  };
  Floats a, b, last_a = {}, last_b = {};  // the last pair overlaps the one before, and dx may be x: it is read first
  if (const int64_t at = last_kept<Pairs>(classes); whole == classes) {
  } else if (at < kept.room) {
    last_a = Pairs::load(kept.at + at) * factor;
    last_b = Pairs::load(kept.at + at + lanes) * factor;
  } else {
    powers(x + classes - pair, last_a, last_b);
  }
  const auto put = [](Element* to, Floats p, Floats q) {
    if constexpr (stream) Pairs::stream_pair(to, p, q);
    else Pairs::store_pair(to, p, q);
  };
  int64_t i = 0;
  for (; i < from_kept; i += pair)
    put(dx + i, Pairs::load(kept.at + i) * factor, Pairs::load(kept.at + i + lanes) * factor);
  for (; i < whole; i += pair) {
    powers(x + i, a, b);
    put(dx + i, a, b);
  }
  if constexpr (stream) Pairs::finish_stream();
  else if (whole < classes) Pairs::store_pair(dx + classes - pair, last_a, last_b);
}

template <class Pairs>
RowSum row_sum(const void* row, int64_t classes, Kept kept) {
  const auto* x = static_cast<const typename Pairs::Element*>(row);
  if (classes >= 2 * Pairs::lanes) return long_row_sum<Pairs>(x, classes, kept);
  const ShortRow<Pairs> filled(x, classes);
  return long_row_sum<Pairs>(filled.elements, filled.size, Kept{});
}

template <class Pairs>
void row_grad(const void* row, int64_t classes, float max, float factor, Kept kept, bool stream, void* grad) {
  const auto* x = static_cast<const typename Pairs::Element*>(row);
  auto* dx = static_cast<typename Pairs::Element*>(grad);
  constexpr int64_t pair = 2 * Pairs::lanes;
  if (stream && classes % pair == 0 && reinterpret_cast<uintptr_t>(dx) % 64 == 0)
    return long_row_grad<Pairs, true>(x, classes, max, factor, kept, dx);
  if (classes >= pair) return long_row_grad<Pairs, false>(x, classes, max, factor, kept, dx);
  ShortRow<Pairs> filled(x, classes);
  long_row_grad<Pairs, false>(filled.elements, filled.size, max, factor, Kept{}, filled.elements);
  for (int64_t i = 0; i < classes; ++i) dx[i] = filled.elements[i];
}

}  // namespace

}  // namespace xent::cpu
