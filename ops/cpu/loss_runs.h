// Runs of rows of few classes that all weigh the same: their labels are read in vectors as well, and some groups are
// under way at a time, so that none waits for its logarithm.
#pragma once

#include <xent/ops/cpu/loss_groups.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <class Label>
LabelCount count_labels(const void* labels, int64_t count, int64_t classes, const int64_t* ignore) {
  const auto* label = static_cast<const Label*>(labels);
  const auto most = static_cast<uint64_t>(classes);
  const int64_t ignored = ignore ? *ignore : 0;  // any class will do
  uint64_t bad = 0, kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<int64_t>(label[i]);
    const uint64_t counts = value != ignored, outside = static_cast<uint64_t>(value) >= most;
    bad |= counts & outside;
    kept += counts;
  }
  return {bad != 0, ignore ? static_cast<int64_t>(kept) : count};
}

inline LabelCount count_labels(const void* labels, int bytes, int64_t count, int64_t classes, const int64_t* ignore) {
  if (bytes == 1) return count_labels<uint8_t>(labels, count, classes, ignore);
  if (bytes == 4) return count_labels<int32_t>(labels, count, classes, ignore);
  return count_labels<int64_t>(labels, count, classes, ignore);
}

// The labels of as many rows as there are lanes, or of fewer, with `skipped` for those that are not there.
template <class Pairs, class Label>
typename Pairs::Words labels_from(const void* labels, int64_t at, int64_t rows) {
  using Words = typename Pairs::Words;
  typedef Label Labels __attribute__((vector_size(sizeof(Label) * Pairs::lanes)));
  const Label* label = static_cast<const Label*>(labels) + at;
  if (rows == Pairs::lanes) {
    Labels wide;
    __builtin_memcpy(&wide, label, sizeof(wide));
    return __builtin_convertvector(wide, Words);
  }
  uint32_t some[Pairs::lanes];
  for (int64_t i = 0; i < Pairs::lanes; ++i) some[i] = i < rows ? static_cast<uint32_t>(label[i]) : LossGroup::skipped;
  return Pairs::template read<Words>(some);
}

template <class Pairs>
typename Pairs::Words labels_of(const LossRun& run, int64_t at, int64_t rows) {
  using Words = typename Pairs::Words;
  const Words label = run.label_bytes == 1   ? labels_from<Pairs, uint8_t>(run.labels, at, rows)
                      : run.label_bytes == 4 ? labels_from<Pairs, uint32_t>(run.labels, at, rows)
                                             : labels_from<Pairs, uint64_t>(run.labels, at, rows);
  return label == run.ignored ? Words{} + LossGroup::skipped : label;
}

// Stores a's and b's lanes in turn.
template <class Pairs, class Floats = typename Pairs::Floats>
void interleave(Floats a, Floats b, float* to) {
  Floats low, high;
  if constexpr (Pairs::lanes == 8) {
    low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  } else {
    low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
  Pairs::store(to, low);
  Pairs::store(to + Pairs::lanes, high);
}

template <class Pairs>
double loss_run(const void* logits, int64_t rows, int64_t classes, const LossRun& run, void* grad) {
  using Floats = typename Pairs::Floats;
  using Element = typename Pairs::Element;
  constexpr int64_t lanes = Pairs::lanes, most_groups = 8;
  const auto* x = static_cast<const Element*>(logits);
  auto* dx = static_cast<Element*>(grad);
  Columns<Pairs> groups[most_groups];
  WideSum<Pairs> sum;
  for (int64_t begin = 0; begin < rows; begin += most_groups * lanes) {
    const int64_t count = rows - begin < most_groups * lanes ? rows - begin : most_groups * lanes;
    const int64_t used = (count + lanes - 1) / lanes;
    const auto size = [=](int64_t g) { return count - g * lanes < lanes ? count - g * lanes : lanes; };
    const auto at = [=](int64_t g) { return (begin + g * lanes) * classes; };
    const auto room = [=](int64_t g) { return (count - g * lanes) * classes; };
    for (int64_t g = 0; g < used; ++g) {
      Columns<Pairs>& group = groups[g];
      group.label = labels_of<Pairs>(run, begin + g * lanes, size(g));
      group.scale = Floats{} + run.scale;
      group.read(x + at(g), size(g), classes, rows * classes - at(g));
      group.exponentials(classes, false);
    }
    for (int64_t g = 0; g < used; ++g) {
      Columns<Pairs>& group = groups[g];
      group.logarithms(false);
      const auto skipped = group.label == LossGroup::skipped;
      sum.add(skipped ? Floats{} : group.surprise);
      float* pairs = run.statistics + 2 * (begin + g * lanes);
      float some[2 * lanes];
      float* to = size(g) == lanes ? pairs : some;
      interleave<Pairs>(skipped ? Floats{} : group.max, skipped ? Floats{} : group.log_sum, to);
      for (int64_t i = 0; to == some && i < 2 * size(g); ++i) pairs[i] = some[i];
    }
    if (!grad) continue;
    for (int64_t g = 0; g < used; ++g) groups[g].write_grad(dx + at(g), size(g), classes, room(g));
  }
  return sum.total();
}

}  // namespace

}  // namespace xent::cpu
