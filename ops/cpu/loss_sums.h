// Sums over the rows of a loss, in chunks that depend on the shape only, added in order: the same bits for any number
// of threads. And what a mean divides by.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <xent/ops/cpu/loss_kernel.h>
#include <xent/ops/cpu/loss_targets.h>

namespace xent::cpu {

// Adds up body(begin, end) over chunks of rows; chunks of rows that are done in groups have whole groups.
template <class Body>
double sum_chunks(const Rows& rows, const Body& body) {
  constexpr int64_t most_chunks = 256;
  const int64_t count = rows.count();
  int64_t grain = std::max({int64_t{1}, (1 << 14) / rows.classes, (count + most_chunks - 1) / most_chunks});
  if (rows.classes <= LossGroup::most_classes) grain += (-grain) & (LossGroup::most_rows - 1);
  std::array<double, most_chunks> partial;
  parallel_for(count, grain,
               [&](int64_t begin, int64_t end) { partial[static_cast<size_t>(begin / grain)] = body(begin, end); });
  double sum = 0;
  for (int64_t chunk = 0; chunk * grain < count; ++chunk) sum += partial[static_cast<size_t>(chunk)];
  return sum;
}

// Adds up body(row) over all rows.
template <class Body>
double sum_rows(const Rows& rows, const Body& body) {
  return sum_chunks(rows, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t row = begin; row < end; ++row) sum += body(row);
    return sum;
  });
}

// Calls body(first, count) for the groups of rows [begin, end).
template <class Body>
void each_group(const LossKernel& kernel, int64_t begin, int64_t end, const Body& body) {
  for (; begin < end; begin += kernel.group_rows) body(begin, std::min(kernel.group_rows, end - begin));
}

inline double denominator_of(const TargetRows& target, const Reduction& reduction, const Shape& shape, int axis,
                             const Numbers& normalizer) {
  if (reduction.kind == Reduction::Kind::sample_mean)
    return static_cast<double>(SampleRows(shape, axis, reduction.batch_axis).per_sample);
  if (reduction.kind != Reduction::Kind::mean) return 1;
  if (normalizer) return normalizer[0];
  if (reduction.denominator == Reduction::Denominator::rows) return static_cast<double>(target.rows().count());
  if (reduction.denominator == Reduction::Denominator::weight_sum && target.unweighted())
    return static_cast<double>(target.kept_rows());
  return sum_rows(target.rows(), [&](int64_t row) { return target.share(row); });
}

}  // namespace xent::cpu
