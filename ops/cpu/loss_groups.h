// Rows of few classes, as many at a time as a vector has lanes: turned over in registers, a class becomes a vector, and
// everything goes down the lanes, a row to each. No row's bits depend on the others of its group.
#pragma once

#include <xent/ops/cpu/loss_loops.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int... lanes>
struct LaneNumbers {};

// Of two rows of blocks of `width` lanes: the even blocks of both, a's and b's in turn, and the odd ones.
template <int width, class V, int... lane>
inline V even_blocks(V a, V b, LaneNumbers<lane...>) {
  return __builtin_shufflevector(a, b, (lane & width ? lane - width + static_cast<int>(sizeof...(lane)) : lane)...);
}
template <int width, class V, int... lane>
inline V odd_blocks(V a, V b, LaneNumbers<lane...>) {
  return __builtin_shufflevector(a, b, (lane & width ? lane + static_cast<int>(sizeof...(lane)) : lane + width)...);
}

template <int width, class V, class Numbers>
inline void exchange_blocks(V* rows, int count, Numbers numbers) {
#pragma GCC unroll 16
  for (int i = 0; i < count; ++i)
    if (!(i & width)) {
      const V a = rows[i], b = rows[i + width];
      rows[i] = even_blocks<width>(a, b, numbers);
      rows[i + width] = odd_blocks<width>(a, b, numbers);
    }
}

// Turns a square of as many vectors as they have lanes over: row i's lane j becomes row j's lane i.
template <class Vectors>
inline void transpose(typename Vectors::Floats* rows) {
  if constexpr (Vectors::lanes == 8) {
    constexpr LaneNumbers<0, 1, 2, 3, 4, 5, 6, 7> numbers;
    exchange_blocks<1>(rows, 8, numbers);
    exchange_blocks<2>(rows, 8, numbers);
    exchange_blocks<4>(rows, 8, numbers);
  } else {
    constexpr LaneNumbers<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15> numbers;
    exchange_blocks<1>(rows, 16, numbers);
    exchange_blocks<2>(rows, 16, numbers);
    exchange_blocks<4>(rows, 16, numbers);
    exchange_blocks<8>(rows, 16, numbers);
  }
}

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

// The rows' elements one after the other, as floats.
template <class Pairs>
struct GroupLine {
  static constexpr int64_t lanes = Pairs::lanes;
  alignas(64) float elements[(lanes + 1) * LossGroup::most_classes] = {};

  void read(const typename Pairs::Element* x, int64_t count) {
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) Pairs::store(elements + i, Pairs::widened(x + i));
    if (i == count) return;
    typename Pairs::Element rest[lanes] = {};
    for (int64_t k = 0; k < count - i; ++k) rest[k] = x[i + k];
    Pairs::store(elements + i, Pairs::widened(rest));
  }
  void write(typename Pairs::Element* x, int64_t count) const {
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) Pairs::narrow(x + i, Pairs::load(elements + i));
    if (i == count) return;
    typename Pairs::Element rest[lanes];
    Pairs::narrow(rest, Pairs::load(elements + i));
    for (int64_t k = 0; k < count - i; ++k) x[i + k] = rest[k];
  }
};

template <class Pairs>
void loss_group(const void* row, int64_t rows, int64_t classes, bool has_pairs, LossGroup& group, void* grad) {
  using Floats = typename Pairs::Floats;
  using Words = typename Pairs::Words;
  using Element = typename Pairs::Element;
  constexpr int64_t lanes = Pairs::lanes, most = LossGroup::most_classes;
  GroupLine<Pairs> line;
  line.read(static_cast<const Element*>(row), rows * classes);
  Floats column[most] = {};  // of a class, a row to each lane; those past the last class are never looked at
  for (int64_t half = 0; half < classes; half += lanes) {
    for (int64_t r = 0; r < lanes; ++r) column[half + r] = Pairs::load(line.elements + r * classes + half);
    transpose<Pairs>(column + half);
  }
  const Words label = Pairs::template read<Words>(group.label);
  Floats max = column[0], at_label = {};
  if (has_pairs) max = Pairs::load(group.max);
  else
    for (int64_t c = 1; c < classes; ++c) max = Pairs::larger(column[c], max);
  for (int64_t c = 0; c < classes; ++c) {
    column[c] -= max;
    at_label = label == static_cast<uint32_t>(c) ? column[c] : at_label;
    column[c] = scaled_exp<Pairs>(column[c]);
  }
  Floats log_sum = Pairs::load(group.log_sum);
  if (!has_pairs) {
    Floats part[4] = {};
    Words ones = {};
    for (int64_t c = 0; c < classes; ++c) {  // the 1 of the largest is kept out: s - 1 keeps its digits
      const auto one = column[c] >= exp_scale;
      ones -= (Words)one;
      part[c & 3] += one ? Floats{} : column[c];
    }
    const Floats rest = ((part[0] + part[1]) + (part[2] + part[3])) * (1 / exp_scale);
    log_sum = log_1p<Pairs>(__builtin_convertvector(ones, Floats) - 1.0f + rest);
    Pairs::store(group.max, max);
    Pairs::store(group.log_sum, log_sum);
    Pairs::store(group.surprise, log_sum - at_label);
  }
  if (!grad) return;
  const Floats scale = Pairs::load(group.scale);
  const Floats factor = (scale * (1 / exp_scale)) * (scaled_exp<Pairs>(-log_sum) * (1 / exp_scale));
  const Floats of_label = scale * exp_m1<Pairs>(at_label - log_sum);
  const auto skipped = label == LossGroup::skipped;
  for (int64_t c = 0; c < classes; ++c) {
    const Floats value = label == static_cast<uint32_t>(c) ? of_label : column[c] * factor;
    column[c] = skipped ? Floats{} : value;
  }
  for (int64_t half = 0; half < classes; half += lanes) transpose<Pairs>(column + half);
  for (int64_t r = 0; r < lanes; ++r)  // the next row goes over what is past this one's end
    for (int64_t half = 0; half < classes; half += lanes)
      Pairs::store(line.elements + r * classes + half, column[half + r]);
  line.write(static_cast<Element*>(grad), rows * classes);
}

}  // namespace

}  // namespace xent::cpu
