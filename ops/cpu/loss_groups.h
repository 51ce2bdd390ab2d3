// Rows of few classes, as many at a time as a vector has lanes: turned over in registers, a class becomes a vector, and
// everything goes down the lanes, a row to each. No row's bits depend on the others of its group.
#pragma once

#include <xent/ops/cpu/loss_kernel.h>
#include <xent/ops/cpu/loss_math.h>

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

// Some rows of few classes on their way from logits to gradients, in three steps: each is short of work that waits for
// what is before it, if it is done for some groups in turn.
template <class Pairs>
struct Columns {
  using Floats = typename Pairs::Floats;
  using Words = typename Pairs::Words;
  using Element = typename Pairs::Element;
  static constexpr int64_t lanes = Pairs::lanes;

  Floats column[LossGroup::most_classes] =
      {};       // of a class, a row to each lane; those past the last class mean nothing
  Words label;  // or LossGroup::none, or skipped
  Floats scale, max = {}, log_sum = {};
  Floats at_label, surprise;
  Floats ones, rest;  // the sum of exponentials: how many are 1, and the others
  Floats factor, of_label;

  // Reads so many rows. `room` elements may be read.
  void read(const Element* x, int64_t rows, int64_t classes, int64_t room) {
    for (int64_t half = 0; half < classes; half += lanes) {
      Floats row[lanes];
#pragma GCC unroll 16
      for (int64_t r = 0; r < lanes; ++r) {
        const int64_t at = r * classes + half;
        row[r] = at + lanes <= room ? Pairs::widened(x + at)
                 : r < rows         ? widened_some(x + at, classes - half)
                                    : Floats{};
      }
      transpose<Pairs>(row);
#pragma GCC unroll 16
      for (int64_t c = 0; c < lanes; ++c) column[half + c] = row[c];
    }
  }

  // Finds max unless it is known, the exponentials, and their sum.
  void exponentials(int64_t classes, bool knows_max) {
    if (!knows_max) {
      max = column[0];
      for (int64_t c = 1; c < classes; ++c) max = Pairs::larger(column[c], max);
    }
    at_label = Floats{};
    Floats with_ones = {}, others = {};
    for (int64_t c = 0; c < classes; ++c) {
      const Floats x = column[c] - max;
      at_label = label == static_cast<uint32_t>(c) ? x : at_label;
      const Floats power = scaled_exp<Pairs>(x);
      column[c] = power;
      with_ones += power;
      others = power >= exp_scale ? others : others + power;  // 1s kept out: s - 1 keeps its digits
    }
    constexpr float shifter = 0x1.8p23f;  // makes a number whole
    ones = ((with_ones - others) * (1 / exp_scale) + shifter) - shifter;
    rest = others * (1 / exp_scale);
  }

  // Finds log_sum and surprise unless these are known, and what the gradient takes.
  void logarithms(bool knows_log_sum) {
    if (!knows_log_sum) log_sum = log_1p<Pairs>(ones - 1.0f + rest);
    surprise = log_sum - at_label;
    factor = (scale * (1 / exp_scale)) * (scaled_exp<Pairs>(-log_sum) * (1 / exp_scale));
    of_label = scale * exp_m1<Pairs>(-surprise);
  }

  // Writes the gradient of so many rows. What is in `room` elements may be overwritten.
  void write_grad(Element* dx, int64_t rows, int64_t classes, int64_t room) const {
    const auto skipped = label == LossGroup::skipped;
    for (int64_t half = 0; half < classes; half += lanes) {
      Floats row[lanes];
#pragma GCC unroll 16
      for (int64_t c = 0; c < lanes; ++c) {
        const Words is_label = (Words)(label == static_cast<uint32_t>(half + c));
        const Floats value = skipped ? Floats{} : column[half + c] * factor;  // of a skipped row perhaps NaN
        row[c] = is_label ? of_label : value;
      }
      transpose<Pairs>(row);
#pragma GCC unroll 16
      for (int64_t r = 0; r < lanes; ++r) {
        const int64_t at = r * classes + half;
        if (classes <= lanes && at + lanes <= room) Pairs::narrow(dx + at, row[r]);  // goes over the next row as well
        else if (r < rows) narrow_some(dx + at, classes - half, row[r]);
      }
    }
  }

 private:
  [[gnu::noinline]] static Floats widened_some(const Element* x, int64_t count) {
    Element some[lanes] = {};
    for (int64_t i = 0; i < lanes && i < count; ++i) some[i] = x[i];
    return Pairs::widened(some);
  }
  [[gnu::noinline]] static void narrow_some(Element* y, int64_t count, Floats value) {
    if (count >= lanes) return Pairs::narrow(y, value);
    Element some[lanes];
    Pairs::narrow(some, value);
    for (int64_t i = 0; i < count; ++i) y[i] = some[i];
  }
};

template <class Pairs>
void loss_group(const void* row, int64_t rows, int64_t classes, bool has_pairs, LossGroup& group, void* grad) {
  using Element = typename Pairs::Element;
  Columns<Pairs> columns;
  columns.label = Pairs::template read<typename Pairs::Words>(group.label);
  columns.scale = Pairs::load(group.scale);
  if (has_pairs) {
    columns.max = Pairs::load(group.max);
    columns.log_sum = Pairs::load(group.log_sum);
  }
  columns.read(static_cast<const Element*>(row), rows, classes, rows * classes);
  columns.exponentials(classes, has_pairs);
  columns.logarithms(has_pairs);
  if (!has_pairs) {
    Pairs::store(group.max, columns.max);
    Pairs::store(group.log_sum, columns.log_sum);
    Pairs::store(group.surprise, columns.surprise);
  }
  if (grad) columns.write_grad(static_cast<Element*>(grad), rows, classes, rows * classes);
}

}  // namespace

}  // namespace xent::cpu
