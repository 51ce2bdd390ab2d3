// SoftmaxCrossEntropy (distributions), SparseSoftmaxCrossEntropy (indices, a weight per row) and their Grads. Neither
// gives a gradient to its label or weight, so they are detached.
#include <xent/nn/compat/onnxruntime.h>

#include <xent/nn/compat/onnxruntime_check.h>
#include <xent/nn/compat/presets.h>

namespace xent::compat::onnxruntime {

namespace {

using Options = SoftmaxCrossEntropyOptions;
using Kind = Reduction::Kind;

constexpr std::string_view dense = "SoftmaxCrossEntropy", dense_grad = "SoftmaxCrossEntropyGrad",
                           sparse = "SparseSoftmaxCrossEntropy", sparse_grad = "SparseSoftmaxCrossEntropyGrad";

LossResult loss(Options options, const Tensor& logits, const Tensor& label, const LossInputs& inputs = {}) {
  options.output = {.dtype = logits.dtype(), .log_probs = true};
  auto outputs = softmax_cross_entropy_outputs(logits, label, options, inputs);
  return {outputs.loss, outputs.log_probs};
}

Tensor grad(std::string_view op, Options options, const Tensor& dY, const Tensor& log_prob, const Tensor& label,
            const LossInputs& inputs = {}) {
  options.output.dtype = log_prob.dtype();
  return xent::softmax_cross_entropy_grad(shaped_dY(op, dY, {}), log_prob, label, {}, options, inputs);
}

// Checks the inputs of the dense forms; `what` is the original's name of the first one.
void check_dense(std::string_view op, std::string_view what, const Tensor& logits, const Tensor& label) {
  check_scores(op, logits, label);
  enforce_type(label.dtype() == logits.dtype(), Cause::target_dtype, "{}: Type Error: label of {}, {} of {}; cast one",
               op, label.dtype(), what, logits.dtype());
  enforce(label.shape() == logits.shape(), Cause::shape, "{}: The shape of {} and label is not identical: {} and {}",
          op, what, logits.shape(), label.shape());
  enforce(logits.rank() >= 1, Cause::rank, "{}: {} must be at least 1-D", op, what);
}

void check_sparse(std::string_view op, const Tensor& logits, const Tensor& label, const Tensor& weight) {
  check_scores(op, logits, label);
  enforce_type(label.dtype() == DType::i64, Cause::label_dtype, "{}: Type Error: label of {}; use i64", op,
               label.dtype());
  check_label_shape(op, logits.shape(), label.shape(), logits.rank() - 1);
  if (!weight) return;
  enforce_type(weight.dtype() == logits.dtype(), Cause::type, "{}: Type Error: weight of {}, logits of {}; cast one",
               op, weight.dtype(), logits.dtype());
  enforce(weight.shape() == label.shape(), Cause::weight_shape,
          "{}: The shape of weight and label is different: {}, {}", op, weight.shape(), label.shape());
}

Options sparse_options(std::string_view op, std::string_view reduction) {
  Options options = presets::onnxruntime_sparse;
  options.reduction.kind = parse_reduction(op, reduction);
  if (options.reduction.kind == Kind::none) options.reduction.kind = Kind::sum;
  return options;
}

LossInputs sparse_inputs(const Tensor& weight) { return {.element_weights = weight ? weight.detach() : weight}; }

}  // namespace

LossResult softmax_cross_entropy(const Tensor& logits, const Tensor& label, std::string_view reduction) {
  Options options = presets::onnxruntime_dense;
  options.reduction.kind = parse_reduction(dense, reduction);
  check_dense(dense, "logit", logits, label);
  if (options.reduction.kind == Kind::none) {
    options.reduction.kind = Kind::sum;
    options.scale = -1;
  }
  return loss(options, logits, label.detach());
}

Tensor softmax_cross_entropy_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                  std::string_view reduction) {
  Options options = presets::onnxruntime_dense;
  options.reduction.kind = parse_reduction(dense_grad, reduction);
  enforce(options.reduction.kind != Kind::none, Cause::reduction,
          "{}: reduction none scales by memory that was never written; use mean or sum", dense_grad);
  check_dense(dense_grad, "probability", log_prob, label);
  return grad(dense_grad, options, dY, log_prob, label);
}

LossResult sparse_softmax_cross_entropy(const Tensor& logits, const Tensor& label, const Tensor& weight,
                                        std::string_view reduction) {
  const Options options = sparse_options(sparse, reduction);
  check_sparse(sparse, logits, label, weight);
  return loss(options, logits, label, sparse_inputs(weight));
}

Tensor sparse_softmax_cross_entropy_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                         const Tensor& weight, std::string_view reduction) {
  const Options options = sparse_options(sparse_grad, reduction);
  check_sparse(sparse_grad, log_prob, label, weight);
  return grad(sparse_grad, options, dY, log_prob, label, sparse_inputs(weight));
}

}  // namespace xent::compat::onnxruntime
