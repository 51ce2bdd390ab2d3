// TargetRows: what the targets of softmax_cross_entropy say of a row: its label or distribution, whether it is ignored,
// its weights, and what it adds to the denominator of a mean.
#pragma once

#include <cstdint>
#include <optional>

#include <xent/core/dispatch.h>
#include <xent/ops/cpu/loss_kernel.h>
#include <xent/ops/cpu/rows.h>
#include <xent/ops/loss_call.h>

namespace xent::cpu {

// A row as its label and weights tell.
struct Row {
  int64_t label = -1;     // -1: a distribution, or no class at all
  double element = 1;     // its element weight
  bool ignored = false;   // by its label
  bool skipped = false;   // ignored, or weighing nothing: gradient +0, and at most the label's logit is read
  bool poisoned = false;  // a label out of range that is to give NaN
  double logit = 0;       // of the label, which must be known once exponentials have taken the logits' place
};

// What both the denominator and the loss need to know of the targets.
class TargetRows {
 public:
  TargetRows(const Call& call, const Shape& shape, const LossAttrs& attrs)
      : options_(attrs.options),
        rows_(shape, static_cast<int>(attrs.options.axis)),
        target_(call.in[loss_in::target]),
        distribution_{target_},
        class_weights_{call.in[loss_in::class_weights]},
        element_weights_{call.in[loss_in::element_weights]},
        ignore_(attrs.options.target.ignore),
        dense_(is_floating(target_.dtype)),
        kept_(1 - attrs.options.target.smoothing),
        spread_(attrs.options.target.smoothing / static_cast<double>(attrs.options.parity.smoothing_classes
                                                                         ? attrs.options.parity.smoothing_classes
                                                                         : rows_.classes)) {
    if (const Slice& ignore = call.in[loss_in::ignore]) ignore_ = *ignore.as<int64_t>();
    if (spread_ != 0)
      for (int64_t c = 0; c < rows_.classes; ++c) all_weights_ += class_weight(c);
  }

  const Rows& rows() const { return rows_; }
  const Slice& target() const { return target_; }
  std::optional<int64_t> ignore() const { return ignore_; }
  bool dense() const { return dense_; }
  bool smoothed() const { return spread_ != 0; }
  double kept() const { return kept_; }

  // Is every row that is not ignored worth 1, by weights and label?
  bool unweighted() const {
    using OutOfRange = SoftmaxCrossEntropyOptions::Parity::OutOfRange;
    const OutOfRange out_of_range = options_.parity.out_of_range;
    return !dense_ && !smoothed() && !class_weights_ && !element_weights_ &&
           (out_of_range == OutOfRange::error || out_of_range == OutOfRange::clip);
  }

  // The number of rows that are not ignored.
  int64_t kept_rows() const {
    if (!ignore_) return rows_.count();
    if (const LossKernel* kernel = loss_kernel(DType::f32)) return counted(*kernel).kept;
    return dispatch_index(target_.dtype, [&]<class L>() {
      const L* labels = target_.as<L>();
      int64_t kept = 0;
      for (int64_t r = 0; r < rows_.count(); ++r) kept += static_cast<int64_t>(labels[r]) != *ignore_;
      return kept;
    });
  }

  LabelCount counted(const LossKernel& kernel) const {
    return kernel.count_labels(target_.data, static_cast<int>(size_of(target_.dtype)), rows_.count(), rows_.classes,
                               ignore_ ? &*ignore_ : nullptr);
  }

  Row row(int64_t r) const {
    using OutOfRange = SoftmaxCrossEntropyOptions::Parity::OutOfRange;
    Row row;
    if (!dense_) {
      row.label = label(r);
      if (ignore_ && row.label == *ignore_) return {.ignored = true, .skipped = true};
      if (row.label < 0 || row.label >= rows_.classes) {
        switch (options_.parity.out_of_range) {
          case OutOfRange::clip: row.label = row.label < 0 ? 0 : rows_.classes - 1; break;
          case OutOfRange::nan_row: return {.poisoned = true};
          case OutOfRange::error:  // checked before: not reached
          case OutOfRange::no_target: row.label = -1; break;
        }
      }
    }
    if (element_weights_) row.element = element_weights_[r];
    row.skipped = row.element == 0 && !options_.parity.multiply_zeros;
    return row;
  }

  double class_weight(int64_t c) const { return class_weights_ ? class_weights_[c] : 1; }

  // The probability of class c in the row's target, smoothed.
  double probability(const Row& row, int64_t start, int64_t c) const {
    const double q = dense_ ? distribution_[start + c * rows_.inner] : c == row.label ? 1 : 0;
    return smoothed() ? kept_ * q + spread_ : q;
  }

  // sum_c w_c q_c
  double mass(const Row& row, int64_t start) const {
    if (!dense_) return kept_ * (row.label < 0 ? 0 : class_weight(row.label)) + spread_ * all_weights_;
    double mass = 0;
    for (int64_t c = 0; c < rows_.classes; ++c) mass += class_weight(c) * probability(row, start, c);
    return mass;
  }

  // What the row adds to the denominator of a mean.
  double share(int64_t r) const {
    using Denominator = Reduction::Denominator;
    const Row row = this->row(r);
    if (row.ignored || row.poisoned) return 0;
    switch (options_.reduction.denominator) {
      case Denominator::weight_sum: return row.skipped ? 0 : row.element * mass(row, rows_.start(r));
      case Denominator::label_weights: return row.label < 0 ? 0 : class_weight(row.label);
      case Denominator::rows: return 0;  // their number is known
      case Denominator::element_weights: return row.element;
      case Denominator::nonzero_weights: return row.element != 0 ? 1 : 0;
      case Denominator::target_mass: break;
    }
    if (!dense_) return row.label < 0 ? 0 : 1;
    double mass = 0;
    for (int64_t c = 0; c < rows_.classes; ++c) mass += distribution_[rows_.start(r) + c * rows_.inner];
    return mass;
  }

 protected:
  const SoftmaxCrossEntropyOptions& options_;

 private:
  int64_t label(int64_t r) const {
    switch (target_.dtype) {
      case DType::u8: return target_.as<uint8_t>()[r];
      case DType::i32: return target_.as<int32_t>()[r];
      default: return target_.as<int64_t>()[r];
    }
  }

  Rows rows_;
  Slice target_;
  Numbers distribution_, class_weights_, element_weights_;
  std::optional<int64_t> ignore_;
  bool dense_;
  double kept_, spread_;    // of smoothing: q becomes kept q + spread
  double all_weights_ = 0;  // of the classes
};

}  // namespace xent::cpu
