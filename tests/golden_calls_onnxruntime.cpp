#include <xent/nn/compat/onnxruntime.h>
#include <xent/ops/ops.h>

#include "golden_calls.h"

namespace golden {

namespace {

namespace ort = xent::compat::onnxruntime;

// The gradient that arrives; ones if the file gives none, in a case whose Grad is to be refused.
Tensor arriving(const Case& wanted, const Tensor& output) {
  return wanted.upstream ? wanted.upstream : Tensor::ones(output.shape(), output.dtype(), output.device());
}

bool wants_grad(const Case& wanted) { return !wanted.grads.empty() || wanted.cause; }

// In a Grad the weights have the type of the log-probabilities.
Tensor weights_for(const Tensor& log_prob, const Tensor& weights) {
  return !weights || weights.dtype() == log_prob.dtype() ? weights : cast(weights, log_prob.dtype());
}

void check_dtype(const Case& wanted, const Tensor& scores) {
  if (wanted.args.dtype("dtype", scores.dtype()) != scores.dtype())
    throw Malformed("args.dtype is not the dtype of the input");
}

Results internal(const Case& wanted) {
  wanted.args.only({"reduction", "dtype", "output_type"});
  wanted.only_inputs({"scores", "labels", "weights", "ignore_index", "bias"});
  const Tensor &scores = wanted.input("scores"), &labels = wanted.input("labels");
  const Tensor weights = wanted.optional_input("weights"), ignore = wanted.optional_input("ignore_index");
  const std::string reduction = wanted.args.text("reduction", "mean");
  check_dtype(wanted, scores);
  const auto [output, log_prob] = ort::softmax_cross_entropy_loss_internal(scores, labels, weights, ignore, reduction,
                                                                           wanted.args.optional_dtype("output_type"));
  Results results = {{{"output", output}, {"log_prob", log_prob}}, {}};
  if (wants_grad(wanted))
    results.grads["scores"] = ort::softmax_cross_entropy_loss_internal_grad(
        arriving(wanted, output), log_prob, labels, weights_for(log_prob, weights), ignore,
        wanted.optional_input("bias"), reduction, scores.dtype());
  return results;
}

Results internal_grad(const Case& wanted) {
  wanted.args.only({"reduction", "dtype", "output_type"});
  wanted.only_inputs({"dY", "log_prob", "labels", "weights", "ignore_index", "bias"});
  check_dtype(wanted, wanted.input("log_prob"));
  return {{{"d_scores",
            ort::softmax_cross_entropy_loss_internal_grad(
                wanted.input("dY"), wanted.input("log_prob"), wanted.input("labels"), wanted.optional_input("weights"),
                wanted.optional_input("ignore_index"), wanted.optional_input("bias"),
                wanted.args.text("reduction", "mean"), wanted.args.optional_dtype("output_type"))}},
          {}};
}

Results loss(const Case& wanted) {
  wanted.args.only({"reduction", "ignore_index", "dtype", "output_type"});
  wanted.only_inputs({"scores", "labels", "weights"});
  const Tensor &scores = wanted.input("scores"), &labels = wanted.input("labels");
  const Tensor weights = wanted.optional_input("weights");
  const std::string reduction = wanted.args.text("reduction", "mean");
  const auto ignore = wanted.args.optional_integer("ignore_index");
  check_dtype(wanted, scores);
  if (wanted.args.dtype("output_type", scores.dtype()) != scores.dtype())
    throw Malformed("SoftmaxCrossEntropyLoss has no output_type");
  const auto [output, log_prob] = ort::softmax_cross_entropy_loss(scores, labels, weights, ignore, reduction);
  Results results = {{{"output", output}, {"log_prob", log_prob}}, {}};
  if (wants_grad(wanted))
    results.grads["scores"] =
        ort::softmax_cross_entropy_loss_grad(arriving(wanted, output), log_prob, labels, weights, reduction, ignore);
  return results;
}

Results dense(const Case& wanted) {
  wanted.args.only({"reduction"});
  wanted.only_inputs({"logits", "labels"});
  const Tensor& labels = wanted.input("labels");
  const std::string reduction = wanted.args.text("reduction", "mean");
  const auto [output, log_prob] = ort::softmax_cross_entropy(wanted.input("logits"), labels, reduction);
  Results results = {{{"output", output}, {"log_prob", log_prob}}, {}};
  if (wants_grad(wanted))
    results.grads["logits"] = ort::softmax_cross_entropy_grad(arriving(wanted, output), log_prob, labels, reduction);
  return results;
}

Results sparse(const Case& wanted) {
  wanted.args.only({"reduction"});
  wanted.only_inputs({"logits", "labels", "weight"});
  const Tensor &labels = wanted.input("labels"), weight = wanted.optional_input("weight");
  const std::string reduction = wanted.args.text("reduction", "mean");
  const auto [output, log_prob] = ort::sparse_softmax_cross_entropy(wanted.input("logits"), labels, weight, reduction);
  Results results = {{{"output", output}, {"log_prob", log_prob}}, {}};
  if (wants_grad(wanted))
    results.grads["logits"] =
        ort::sparse_softmax_cross_entropy_grad(arriving(wanted, output), log_prob, labels, weight, reduction);
  return results;
}

// Through the tape, which goes back from the logits and not from the rounded log-probabilities.
Results cuda_internal(const Case& wanted) {
  wanted.args.only({"reduction", "dtype", "output_type"});
  wanted.only_inputs({"scores", "labels", "weights", "ignore_index", "bias"});
  const Tensor& scores = wanted.input("scores");
  check_dtype(wanted, scores);
  return differentiate(wanted, [&]() -> Tensors {
    const auto [output, log_prob] = ort::cuda::softmax_cross_entropy_loss_internal(
        scores, wanted.input("labels"), wanted.optional_input("weights"), wanted.optional_input("ignore_index"),
        wanted.args.text("reduction", "mean"), wanted.args.optional_dtype("output_type"),
        wanted.optional_input("bias"));
    return {{"output", output}, {"log_prob", log_prob}};
  });
}

Results cuda_internal_grad(const Case& wanted) {
  wanted.args.only({"reduction", "dtype", "output_type"});
  wanted.only_inputs({"dY", "log_prob", "labels", "weights", "ignore_index", "bias"});
  check_dtype(wanted, wanted.input("log_prob"));
  return {{{"d_scores",
            ort::cuda::softmax_cross_entropy_loss_internal_grad(
                wanted.input("dY"), wanted.input("log_prob"), wanted.input("labels"), wanted.optional_input("weights"),
                wanted.optional_input("ignore_index"), wanted.optional_input("bias"),
                wanted.args.text("reduction", "mean"), wanted.args.optional_dtype("output_type"))}},
          {}};
}

constexpr Api apis[] = {{"ort_internal", internal},
                        {"ort_internal_grad", internal_grad},
                        {"ort_loss", loss},
                        {"ort_dense", dense},
                        {"ort_sparse", sparse},
                        {"ort_cuda_internal", cuda_internal},
                        {"ort_cuda_internal_grad", cuda_internal_grad}};

}  // namespace

std::span<const Api> onnxruntime_apis() { return apis; }

}  // namespace golden
