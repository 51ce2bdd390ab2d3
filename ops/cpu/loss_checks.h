// What softmax_cross_entropy refuses by the values of its inputs, before anything is written.
#pragma once

#include <cmath>

#include <xent/core/require.h>
#include <xent/core/warning.h>
#include <xent/ops/cpu/labels.h>
#include <xent/ops/cpu/loss_targets.h>
#include <xent/ops/loss_rules.h>

namespace xent::cpu {

// Throws LabelError for a label that is no class.
inline void check_targets(const char* op, const TargetRows& target, const SoftmaxCrossEntropyOptions& options) {
  if (target.dense() || options.parity.out_of_range != SoftmaxCrossEntropyOptions::Parity::OutOfRange::error) return;
  const LossKernel* kernel = loss_kernel(DType::f32);
  if (!kernel || target.counted(*kernel).bad) check_labels(op, target.target(), target.rows().classes, target.ignore());
}

inline void check_denominator(const char* op, const Reduction& reduction, double denominator) {
  require<ArgumentError>(reduction.kind != Reduction::Kind::mean ||
                             reduction.when_zero != Reduction::WhenZero::error_if_not_positive || !(denominator <= 0),
                         "{}: the mean is over a total of {}, which must be positive", op, shown(denominator));
}

// What the option `validate` asks for. There may be no logits.
inline void validate(const char* op, const Call& call, const TargetRows& target,
                     const SoftmaxCrossEntropyOptions& options) {
  const auto check_weights = [&](const char* what, const Slice& weights) {
    for (int64_t i = 0; weights && i < weights.shape.elements(); ++i) {
      const double weight = Numbers{weights}[i];
      require<ArgumentError>(weight >= 0 && std::isfinite(weight),
                             "{}: {} weight {} is {}; weights are finite and not negative", op, what, i, weight);
    }
  };
  check_weights("class", call.in[loss_in::class_weights]);
  check_weights("element", call.in[loss_in::element_weights]);

  const Rows& rows = target.rows();
  if (rows.classes == 1) warn("softmax_cross_entropy: there is one class, so the loss is always 0");
  const auto sum_of = [&](const Numbers& numbers, int64_t row, bool& probabilities) {
    double sum = 0;
    for (int64_t c = 0; c < rows.classes; ++c) {
      const double value = numbers[rows.start(row) + c * rows.inner];
      probabilities = probabilities && value >= 0 && value <= 1.001;
      sum += value;
    }
    return sum;
  };
  const Numbers distribution{target.target()}, logits{call.in[loss_in::logits]};
  bool like_probabilities = options.input == SoftmaxCrossEntropyOptions::Input::logits && rows.classes > 1 && logits;
  for (int64_t row = 0; row < rows.count(); ++row) {
    if (target.dense()) {
      bool probabilities = true;
      const double sum = sum_of(distribution, row, probabilities);
      require<ArgumentError>(probabilities && std::abs(sum - 1) < 1e-2,
                             "{}: row {} of the target is no distribution: it sums to {}{}", op, row, shown(sum),
                             probabilities ? "" : ", with elements outside [0, 1]");
    }
    if (like_probabilities && !target.row(row).ignored)
      like_probabilities = std::abs(sum_of(logits, row, like_probabilities) - 1) < 1e-3 && like_probabilities;
  }
  if (like_probabilities && rows.count() > 0)
    warn("softmax_cross_entropy: every row of the logits sums to 1 like probabilities; it takes logits, not a softmax");
}

}  // namespace xent::cpu
