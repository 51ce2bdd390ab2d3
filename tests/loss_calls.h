// What the tests of the loss share: a call and its gradient in one line, and bits.
//
//   const auto [loss, grad] = run(Tensor::from({0, -104}, {1, 2}), labels({1}));  // {104}, {1, -1}
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <xent/core/tape.h>
#include <xent/core/warning.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

#include "error_of.h"

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Class indices, one row each.
inline xent::Tensor labels(const std::vector<int64_t>& values) {
  return xent::Tensor::from(values, {static_cast<int64_t>(values.size())});
}

// Options with a reduction and nothing else.
inline xent::SoftmaxCrossEntropyOptions reduced(xent::Reduction::Kind kind) { return {.reduction = {.kind = kind}}; }

struct Computed {
  std::vector<double> loss, grad;
};

// The loss and the logits' gradient for ones at the loss.
inline Computed run(const xent::Tensor& logits, const xent::Tensor& target,
                    const xent::SoftmaxCrossEntropyOptions& options = {}, const xent::LossInputs& inputs = {}) {
  xent::Tape tape;
  tape.watch(logits);
  const xent::Tensor loss = softmax_cross_entropy(logits, target, options, inputs);
  const xent::Gradients gradients = tape.backward(loss, {.upstream = xent::Tensor::ones(loss.shape(), loss.dtype())});
  const auto values = [](const xent::Tensor& x) { return cast(x, xent::DType::f64).to_vector<double>(); };
  return {values(loss), values(gradients[logits])};
}

inline double loss_of(const xent::Tensor& logits, const xent::Tensor& target,
                      const xent::SoftmaxCrossEntropyOptions& options = {}, const xent::LossInputs& inputs = {}) {
  return softmax_cross_entropy(logits, target, options, inputs).item();
}

// The bits of a tensor: unlike ==, they tell -0 from 0 and find NaN equal to itself.
inline std::string bytes_of(const xent::Tensor& x) {
  std::string bytes(x.bytes(), '\0');
  if (!bytes.empty()) std::memcpy(bytes.data(), x.raw(), bytes.size());
  return bytes;
}

// Says whether there are only zeros without a sign.
inline bool all_plus_zero(const std::vector<double>& values) {
  for (const double value : values)
    if (value != 0 || std::signbit(value)) return false;
  return true;
}

// Says whether two lists are equal element for element, to an absolute error.
inline bool near(const std::vector<double>& a, const std::vector<double>& b, double error) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= error)) return false;
  return true;
}

// The warnings that a call gives, one after another.
template <class F>
std::string warnings_of(const F& call) {
  std::string all;
  const xent::WarningHandler before = xent::set_warning_handler([&](std::string_view text) { all += text; });
  call();
  xent::set_warning_handler(before);
  return all;
}
