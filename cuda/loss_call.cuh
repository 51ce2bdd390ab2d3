// What a call of softmax_cross_entropy, of its gradient or its denominator says: the scratch memory, targets and
// options, as kernels take them.
#pragma once

#include <algorithm>

#include <xent/core/warning.h>
#include <xent/cuda/loss_sums.cuh>
#include <xent/cuda/loss_validate.cuh>
#include <xent/cuda/row_limit.h>

namespace xent::cuda {

// ---- scratch: scalars, sums of the blocks, and for sample_mean the losses of the rows ----

constexpr size_t loss_scalars_bytes = 256, loss_sums_bytes = most_loss_blocks * sizeof(double);
static_assert(sizeof(LossScalars) <= loss_scalars_bytes);

struct LossScratch {
  LossScalars* scalars;
  double *sums, *row_losses;

  explicit LossScratch(const Call& call)
      : scalars(static_cast<LossScalars*>(call.workspace)),
        sums(reinterpret_cast<double*>(static_cast<std::byte*>(call.workspace) + loss_scalars_bytes)),
        row_losses(sums + most_loss_blocks) {}
};

inline Shape shape_of_logits(const Call& call, const LossAttrs& attrs) {
  if (const Slice& logits = call.in[loss_in::logits]) return logits.shape;
  const Slice& target = call.in[loss_in::target];
  return is_floating(target.dtype) ? target.shape
                                   : logits_shape(target.shape, static_cast<int>(attrs.options.axis), attrs.classes);
}

inline size_t loss_scratch_bytes(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  const Shape shape = call.in[loss_in::logits].shape;
  const bool samples = attrs.options.reduction.kind == Reduction::Kind::sample_mean;
  const int64_t rows = samples ? shape.elements() / std::max<int64_t>(1, shape[attrs.options.axis]) : 0;
  return loss_scalars_bytes + loss_sums_bytes + static_cast<size_t>(rows) * sizeof(double);
}

// ---- what a call says, for kernels ----

inline LossTarget target_of(const char* op, const Call& call, const Shape& shape, const LossAttrs& attrs) {
  const SoftmaxCrossEntropyOptions& options = attrs.options;
  const auto axis = static_cast<int>(options.axis);
  const Slice &target = call.in[loss_in::target], &ignore = call.in[loss_in::ignore];
  const int64_t classes = row_length(op, shape, shape[axis], "classes"), inner = shape.product(axis + 1, shape.rank());
  const bool dense = is_floating(target.dtype);
  const int64_t smoothed_over = options.parity.smoothing_classes ? options.parity.smoothing_classes : classes;
  return {.labels = {.data = dense ? nullptr : target.data,
                     .dtype = target.dtype,
                     .count = shape.product(0, axis) * inner,
                     .classes = classes,
                     .ignores = options.target.ignore.has_value() || ignore,
                     .ignore = options.target.ignore.value_or(0),
                     .ignore_at = ignore.as<const int64_t>()},
          .distribution = dense ? numbers_of(target) : FloatingNumbers(),
          .class_weights = numbers_of(call.in[loss_in::class_weights]),
          .element_weights = numbers_of(call.in[loss_in::element_weights]),
          .inner = Divisor(std::max<int64_t>(1, inner)),
          .kept = 1 - options.target.smoothing,
          .spread = options.target.smoothing / static_cast<double>(smoothed_over),
          .out_of_range = options.parity.out_of_range,
          .dense = dense,
          .multiply_zeros = options.parity.multiply_zeros,
          .exact = options.parity.dense_grad == SoftmaxCrossEntropyOptions::Parity::DenseGrad::exact};
}

// The preparation of a loss whose denominator is not known yet.
inline LossPreparation preparation_of(const char* op, const Call& call, const Shape& shape, const LossAttrs& attrs) {
  const auto& [kind, denominator, when_zero, batch_axis] = attrs.options.reduction;
  LossPreparation p = {.target = target_of(op, call, shape, attrs),
                       .options = attrs.options,
                       .op = op,
                       .errors = errors_of(call),
                       .scalars = LossScratch(call).scalars,
                       .partial = LossScratch(call).sums};
  p.checks_labels =
      !p.target.dense && attrs.options.parity.out_of_range == SoftmaxCrossEntropyOptions::Parity::OutOfRange::error;
  if (kind == Reduction::Kind::sample_mean) {
    const SampleRows samples(shape, static_cast<int>(attrs.options.axis), batch_axis);
    p.denominator = row_length(op, shape, samples.per_sample, "rows in a sample");  // which a block adds up
  } else if (kind == Reduction::Kind::mean) {
    if (denominator == Reduction::Denominator::rows) p.denominator = static_cast<double>(p.target.rows());
    else p.sums_shares = true;
  }
  return p;
}

inline bool needs_positive(const Reduction& reduction) {
  return reduction.kind == Reduction::Kind::mean && reduction.when_zero == Reduction::WhenZero::error_if_not_positive;
}

// For a loss that is computed, and may be given its denominator.
inline LossPreparation preparation_of_rows(const char* op, const Call& call, const LossAttrs& attrs) {
  LossPreparation p = preparation_of(op, call, call.in[loss_in::logits].shape, attrs);
  p.checks_denominator = needs_positive(attrs.options.reduction) && !attrs.options.validate;
  p.normalizer = numbers_of(call.in[loss_in::normalizer]);
  if (p.normalizer) p.sums_shares = false;
  return p;
}

// Is a row's gradient that of RowGrad?
inline bool is_plain(const Call& call, const LossTarget& target, const SoftmaxCrossEntropyOptions& options) {
  return !target.dense && !(target.smoothed() && target.class_weights) && !call.in[loss_in::grad_addend] &&
         options.input == SoftmaxCrossEntropyOptions::Input::logits;
}

// Errors are told after those of the labels. That logits look like probabilities is for the CPU to find.
inline void validate(const Call& call, const LossPreparation& p) {
  if (!p.options.validate) return;
  if (p.target.classes() == 1) warn("softmax_cross_entropy: there is one class, so the loss is always 0");
  const LossScalars* scalars = needs_positive(p.options.reduction) ? p.scalars : nullptr;
  validate_loss(call, p.op, p.target, scalars, LossScratch(call).sums);
}

}  // namespace xent::cuda
