// SoftmaxCrossEntropyLoss, its Internal form and their Grads: the choice of semantics by dtype, the operators' checks,
// and one call of softmax_cross_entropy.
#include <xent/nn/compat/onnxruntime.h>

#include <xent/nn/compat/as_dtype.h>
#include <xent/nn/compat/onnxruntime_check.h>
#include <xent/nn/compat/presets.h>
#include <xent/ops/ops.h>

namespace xent::compat::onnxruntime {

namespace {

using Options = SoftmaxCrossEntropyOptions;

constexpr int class_axis = 1;

// The CPU kernel exists for f32 alone; ONNX Runtime expands all else into the operator's function body.
const Options& cpu_preset(DType from, DType to) {
  return from == DType::f32 && to == DType::f32 ? presets::onnxruntime : presets::onnx;
}

struct Arguments {
  std::string_view op;
  Tensor scores;  // or log-probabilities
  const Tensor& labels;
  const Tensor& weights;
  const Tensor& ignore_index;
  const Tensor& bias;
  DType output_type;
};

// The order is the original's, as far as one input can break two rules; what it does not check is at the end.
void check(const Arguments& a) {
  check_scores(a.op, a.scores, a.labels);
  enforce_type(is_floating(a.output_type), Cause::type, "{}: Type Error: output_type {}; use a floating type", a.op,
               a.output_type);
  enforce_type(a.labels.dtype() == DType::i32 || a.labels.dtype() == DType::i64, Cause::label_dtype,
               "{}: Type Error: labels of {}; use i32 or i64", a.op, a.labels.dtype());
  if (a.ignore_index) {
    enforce_type(a.ignore_index.dtype() == DType::i64, Cause::type, "{}: Type Error: ignore_index of {}; use i64", a.op,
                 a.ignore_index.dtype());
    enforce(a.ignore_index.rank() <= 1 && a.ignore_index.elements() == 1, Cause::ignore_index,
            "{}: ignore_index should be a scalar, [] or [1], not {}", a.op, a.ignore_index.shape());
  }

  const Shape &scores = a.scores.shape(), &labels = a.labels.shape();
  if (a.weights) {
    enforce_type(is_floating(a.weights.dtype()), Cause::type, "{}: Type Error: weights of {}", a.op, a.weights.dtype());
    enforce(a.weights.rank() == 1, Cause::weight_shape, "{}: Weights tensor is not 1-D, but {}", a.op,
            a.weights.shape());
  }
  check_label_shape(a.op, scores, labels, class_axis);
  if (a.bias) {
    enforce_type(is_floating(a.bias.dtype()), Cause::type, "{}: Type Error: bias of {}", a.op, a.bias.dtype());
    enforce(a.bias.elements() == scores.elements(), Cause::shape, "{}: bias is {}, the scores {}", a.op, a.bias.shape(),
            scores);
  }

  enforce(labels.rank() >= 1, Cause::rank, "{}: label must be at least 1-D", a.op);
  enforce(labels.elements() > 0, Cause::shape, "{}: label tensor must not be empty, as {} is", a.op, labels);
  if (a.weights) {
    const int64_t classes = scores[class_axis], size = a.weights.elements();
    enforce(size == classes, Cause::weight_shape, "{}: Weight tensor size ({}) must equal the number of classes ({})",
            a.op, size, classes);
  }
}

// Checks the arguments and brings the scores to the wider of their own and the output's type, in which the original
// computes. f32 is wide enough for all but f64.
LossInputs prepare(Arguments& a) {
  check(a);
  const bool wide = a.output_type == DType::f64 || a.scores.dtype() == DType::f64;
  if (wide) a.scores = as_dtype(a.scores, DType::f64);
  return {.class_weights = a.weights ? as_dtype(a.weights, wide ? DType::f64 : DType::f32) : Tensor(),
          .ignore = a.ignore_index,
          .grad_addend = a.bias ? a.bias.reshape(a.scores.shape()) : Tensor()};
}

LossResult loss(Options options, Arguments a, std::string_view reduction) {
  options.reduction.kind = parse_reduction(a.op, reduction);
  enforce_type(
      !a.weights || a.weights.dtype() == a.scores.dtype(), Cause::type,
      "{}: Type Error: Type parameter (T) of Optype ({}) bound to different types, {} and {}; cast the weights", a.op,
      a.op, a.scores.dtype(), a.weights.dtype());
  const LossInputs inputs = prepare(a);
  options.output = {.dtype = a.output_type, .log_probs = true};
  auto outputs = softmax_cross_entropy_outputs(a.scores, a.labels, options, inputs);
  return {outputs.loss, outputs.log_probs};
}

// Log-probabilities are logits whose statistics are 0, so that p is exp(log_prob) whether it sums to 1 or not. Weights
// may be of another type than log_prob: those of the loss have the scores' type, log_prob the output's.
Tensor grad(Options options, const Tensor& dY, Arguments a, std::string_view reduction) {
  options.reduction.kind = parse_reduction(a.op, reduction);
  const LossInputs inputs = prepare(a);
  const Shape loss = options.reduction.kind == Reduction::Kind::none ? a.labels.shape() : Shape();
  options.output.dtype = a.output_type;
  return softmax_cross_entropy_grad(shaped_dY(a.op, dY, loss), a.scores, a.labels, {}, options, inputs);
}

Options with_ignore(Options options, std::optional<int64_t> ignore_index) {
  if (ignore_index) options.target.ignore = ignore_index;
  return options;
}

}  // namespace

LossResult softmax_cross_entropy_loss(const Tensor& scores, const Tensor& labels, const Tensor& weights,
                                      std::optional<int64_t> ignore_index, std::string_view reduction) {
  const DType type = scores.dtype();
  return loss(with_ignore(cpu_preset(type, type), ignore_index),
              {"SoftmaxCrossEntropyLoss", scores, labels, weights, {}, {}, type}, reduction);
}

LossResult softmax_cross_entropy_loss_internal(const Tensor& scores, const Tensor& labels, const Tensor& weights,
                                               const Tensor& ignore_index, std::string_view reduction,
                                               std::optional<DType> output_type) {
  const DType type = output_type.value_or(scores.dtype());
  return loss(cpu_preset(scores.dtype(), type),
              {"SoftmaxCrossEntropyLossInternal", scores, labels, weights, ignore_index, {}, type}, reduction);
}

Tensor softmax_cross_entropy_loss_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                       const Tensor& weight, std::string_view reduction,
                                       std::optional<int64_t> ignore_index) {
  const DType type = log_prob.dtype();
  return grad(with_ignore(cpu_preset(type, type), ignore_index), dY,
              {"SoftmaxCrossEntropyLossGrad", log_prob, label, weight, {}, {}, type}, reduction);
}

Tensor softmax_cross_entropy_loss_internal_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                                const Tensor& weight, const Tensor& ignore_index, const Tensor& bias,
                                                std::string_view reduction, std::optional<DType> output_type) {
  const DType type = output_type.value_or(log_prob.dtype());
  enforce_type(!bias || type == log_prob.dtype(), Cause::type,
               "SoftmaxCrossEntropyLossInternalGrad: Type Error: Type parameter (T) of Optype (Add) bound to different "
               "types, {} and {}; leave out output_type",
               log_prob.dtype(), type);
  return grad(cpu_preset(log_prob.dtype(), type), dY,
              {"SoftmaxCrossEntropyLossInternalGrad", log_prob, label, weight, ignore_index, bias, type}, reduction);
}

namespace cuda {

LossResult softmax_cross_entropy_loss_internal(const Tensor& scores, const Tensor& labels, const Tensor& weights,
                                               const Tensor& ignore_index, std::string_view reduction,
                                               std::optional<DType> output_type, const Tensor& bias) {
  return loss(presets::onnxruntime_cuda,
              {"SoftmaxCrossEntropyLossInternal", scores, labels, weights, ignore_index, bias,
               output_type.value_or(scores.dtype())},
              reduction);
}

Tensor softmax_cross_entropy_loss_internal_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                                const Tensor& weight, const Tensor& ignore_index, const Tensor& bias,
                                                std::string_view reduction, std::optional<DType> output_type) {
  return grad(presets::onnxruntime_cuda, dY,
              {"SoftmaxCrossEntropyLossInternalGrad", log_prob, label, weight, ignore_index, bias,
               output_type.value_or(log_prob.dtype())},
              reduction);
}

}  // namespace cuda

}  // namespace xent::compat::onnxruntime
