// Rows: a tensor folded around one axis to [outer, classes, inner]. Row r = (o, i) has its elements `inner` apart.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <xent/core/parallel.h>
#include <xent/core/shape.h>
#include <xent/ops/cpu/loss_kernel.h>

namespace xent::cpu {

struct Rows {
  int64_t outer, classes, inner;

  Rows(const Shape& shape, int axis)
      : outer(shape.product(0, axis)), classes(shape[axis]), inner(shape.product(axis + 1, shape.rank())) {}

  int64_t count() const { return outer * inner; }
  int64_t start(int64_t row) const { return row / inner * classes * inner + row % inner; }

  // Calls body(row) for all rows, in parallel chunks of some 16k elements.
  template <class Body>
  void each(Body&& body) const {
    const int64_t grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(classes, 1));
    parallel_for(count(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) body(row);
    });
  }
};

// The largest element of a row, and the logarithm of the sum of exp(x - max). The pair keeps all digits when every
// element has a common offset; max + log(sum) as one number would not.
template <class T>
struct RowStatistics {
  T max;
  T log_sum;
};

// The type that arithmetic on T is done in: f64 for f64, else f32.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Sums in f64, in order. An element of +inf, a NaN, or a row of nothing but -inf gives NaN, as IEEE has it. kept: where
// the exponentials may stay.
template <class T>
RowStatistics<Wide<T>> row_statistics(const T* x, int64_t classes, int64_t stride, Kept kept = {}) {
  using W = Wide<T>;
  if constexpr (std::is_same_v<W, float>)
    if (const LossKernel* kernel = stride == 1 ? loss_kernel(dtype_of<T>) : nullptr) {
      const RowSum row = kernel->sum(x, classes, kept);
      return {row.max, static_cast<W>(std::log(row.sum))};
    }
  auto max = static_cast<W>(x[0]);
  for (int64_t c = 1; c < classes; ++c) {
    const auto value = static_cast<W>(x[c * stride]);
    max = value > max ? value : max;
  }
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += static_cast<double>(std::exp(static_cast<W>(x[c * stride]) - max));
  return {max, static_cast<W>(std::log(sum))};
}

}  // namespace xent::cpu
