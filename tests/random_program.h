// What random programs are made of: ops on random values, for fuzz_programs and cuda_fuzz_programs.
#pragma once

#include <cstdint>
#include <vector>

#include <xent/xent.h>

#include "chance.h"

using namespace xent;

// Applies one op, or a few, to values that broadcast to `wide`, [n, m]. No kinks, and no large values.
inline Tensor apply_random(Chance& c, const std::vector<Tensor>& values, const Shape& wide, const Tensor& labels) {
  const Tensor a = c.any(values), b = c.any(values);
  const int64_t n = wide[0], m = wide[1];
  const Tensor zeros = Tensor::zeros(wide, a.dtype(), a.device()), x = add(a, zeros), y = add(zeros, b);
  switch (c.below(19)) {
    case 0: return sigmoid(a);
    case 1: return gelu(tanh(a));
    case 2: return log(mul(a, a) + 1);
    case 3: return exp(scale(tanh(a), 0.5));
    case 4: return sub(a, b);
    case 5: return tanh(mul(a, b));
    case 6: return div(a, mul(b, b) + 1);
    case 7: return softmax(x, c.from(0, 1));
    case 8: return tanh(log_softmax(x, c.from(-2, -1)));
    case 9: return tanh(sum(x, {c.from(0, 1)}, true));
    case 10: return n == 0 ? a : mean(x, {c.from(0, 1)}, true);
    case 11: return tanh(sum(matmul(x, y, {.transpose_b = true}), {1}, true));
    case 12: return linear(x, matmul(y, x, {.transpose_a = true}), sum(y, {0}), Activation::tanh);
    case 13: return linear(y, matmul(x, x, {.transpose_a = true}), {}, Activation::sigmoid);
    case 14: return reshape(flatten(reshape(x, {1, n, 1, m})), wide);
    case 15: {
      const int64_t begin = c.from(0, n), end = c.from(begin, n);
      return tanh(mul(a, sum(slice_rows(x, begin, end))));
    }
    case 16: return reshape(pick(x, labels), {n, 1});
    case 17: {
      SoftmaxCrossEntropyOptions o{.target = {.ignore = c.from(-1, 1), .smoothing = c.any<double>({0, 0.1})}};
      o.reduction.kind = c.any<Reduction::Kind>({Reduction::Kind::sum, Reduction::Kind::mean});
      return tanh(softmax_cross_entropy(x, labels, o));
    }
    default: return cast(cast(a.clone(), DType::f64), a.dtype());
  }
}

inline Tensor normals(Chance& c, const Shape& shape, DType dtype) {
  std::vector<double> numbers(static_cast<size_t>(shape.elements()));
  for (double& number : numbers) number = c.normal();
  return cast(Tensor::from(numbers, shape), dtype);
}

// Labels in [0, classes), as a rule.
inline Tensor labels_of(Chance& c, int64_t rows, int64_t classes, bool wrong) {
  std::vector<int64_t> numbers(static_cast<size_t>(rows));
  for (int64_t& number : numbers) number = c.from(0, classes - 1);
  if (wrong && rows > 0) numbers[c.below(numbers.size())] = c.any<int64_t>({-7, classes, INT64_MAX});
  return Tensor::from(numbers, {rows});
}
