#include <xent/nn/compat/torch.h>

#include <xent/core/warning.h>
#include <xent/nn/compat/presets.h>
#include <xent/nn/compat/refuse_unless.h>
#include <xent/nn/compat/torch_types.h>
#include <xent/ops/loss_rules.h>

namespace xent::compat::torch {

namespace {

using Kind = Reduction::Kind;

Kind reduction_kind(std::optional<bool> size_average, std::optional<bool> reduce, std::string_view reduction) {
  if (size_average || reduce) {
    reduction = !reduce.value_or(true) ? "none" : size_average.value_or(true) ? "mean" : "sum";
    warn(fmt::format("size_average and reduce args will be deprecated, please use reduction='{}' instead.", reduction));
  }
  if (reduction == "elementwise_mean") {
    warn("reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead.");
    return Kind::mean;
  }
  if (reduction == "none") return Kind::none;
  if (reduction == "mean") return Kind::mean;
  refuse_unless(reduction == "sum", Cause::reduction, "ValueError", "{} is not a valid value for reduction", reduction);
  return Kind::sum;
}

int class_axis(const Shape& input) { return input.rank() == 1 ? 0 : 1; }

// Every rank has words of its own in the original, all for the same: one index per row.
void check_target_shape(const Shape& input, const Shape& target) {
  const Shape rows = without_axis(input, class_axis(input));
  if (target == rows) return;
  const auto refuse = [](std::string_view type, const std::string& text) { throw Refused(Cause::shape, type, text); };
  const int rank = input.rank();
  if (rank > 1) {
    if (target.rank() == 0)  // the original reads the extent of an axis that is not there
      refuse("ValueError", fmt::format("Expected input batch_size ({}) to match target batch_size, but the target is "
                                       "a scalar; it takes {}",
                                       input[0], rows));
    if (target[0] != input[0])
      refuse("ValueError",
             fmt::format("Expected input batch_size ({}) to match target batch_size ({}).", input[0], target[0]));
  }
  if (rank <= 2) {
    if (target.rank() > 1) refuse("RuntimeError", "0D or 1D target tensor expected, multi-target not supported");
    refuse("RuntimeError", fmt::format("size mismatch (got input: {}, target: {})", input, target));
  }
  if (rank == 4 && target.rank() != 3)
    refuse("RuntimeError", fmt::format("only batches of spatial targets supported (3D tensors) but got targets of "
                                       "dimension: {}",
                                       target.rank()));
  if (rank == 4) refuse("RuntimeError", fmt::format("size mismatch (got input: {} , target: {}", input, target));
  refuse("RuntimeError", fmt::format("Expected target size {}, got {}", rows, target));
}

void check_target_dtype(int rank, DType target) {
  if (rank <= 2)
    refuse_unless(target == DType::i64 || target == DType::u8, Cause::label_dtype, "RuntimeError",
                  "expected target dtype to be Long or Byte, but got {}", scalar_type(target));
  else
    refuse_unless(target == DType::i64, Cause::label_dtype, "RuntimeError", "expected scalar type Long but found {}",
                  scalar_type(target));
}

void check_smoothing(double smoothing) {
  refuse_unless(smoothing <= 1, Cause::smoothing, "RuntimeError",
                "label_smoothing must be between 0.0 and 1.0. Got: {}", smoothing);
}

void check_weight_length(const char* prefix, const Tensor& weight, int64_t classes) {
  refuse_unless(weight.rank() == 1 && weight.elements() == classes, Cause::weight_shape, "RuntimeError",
                "{}weight tensor should be defined either for all {} classes or no classes but got weight tensor of "
                "shape: {}",
                prefix, classes, weight.shape());
}

// Inputs of rank 3 and more take weights of any shape, if there are as many as classes.
void check_weight(const Shape& input, DType dtype, const Tensor& weight, double smoothing) {
  const int64_t classes = input[class_axis(input)];
  if (input.rank() <= 2 || smoothing > 0) check_weight_length("", weight, classes);
  else
    refuse_unless(weight.elements() == classes, Cause::weight_shape, "RuntimeError",
                  "weight tensor should be defined either for all or no classes");
  refuse_unless(weight.dtype() == dtype, Cause::type, "RuntimeError", "expected scalar type {} but found {}",
                scalar_type(dtype), scalar_type(weight.dtype()));
}

Tensor with_probabilities(const Tensor& input, const Tensor& target, const Tensor& weight, Kind kind,
                          int64_t ignore_index, double smoothing) {
  refuse_unless(is_floating(target.dtype()), Cause::target_dtype, "RuntimeError",
                "Expected floating point type for target with class probabilities, got {}",
                scalar_type(target.dtype()));
  refuse_unless(ignore_index < 0, Cause::ignore_index, "RuntimeError",
                "ignore_index is not supported for floating point target");
  const int64_t axis = class_axis(input.shape());
  if (weight) check_weight_length("cross_entropy: ", weight, input.shape()[axis]);
  check_smoothing(smoothing);

  SoftmaxCrossEntropyOptions options = presets::torch_probabilities;
  options.axis = axis;
  options.target.smoothing = smoothing;
  options.reduction.kind = kind;
  DType common = promote(input.dtype(), target.dtype());
  if (weight) common = promote(common, weight.dtype());
  options.output.dtype = common;
  const Tensor logits = common == DType::f64 ? as_dtype(input, common) : input;
  return softmax_cross_entropy(logits, beside(logits, target), options, {.class_weights = beside(logits, weight)});
}

// The original adds (1 - smoothing) times the plain loss and smoothing times the mean over the classes, each divided by
// itself. Here they are one, which differs in what is no number.
Tensor with_smoothing(const Tensor& input, const Tensor& target, SoftmaxCrossEntropyOptions options,
                      const LossInputs& inputs) {
  const bool by_weights = inputs.class_weights && options.reduction.kind == Kind::mean;
  if (!by_weights && options.target.smoothing < 1) return softmax_cross_entropy(input, target, options, inputs);
  options.output.dtype = arithmetic(input.dtype());  // add and mul take no 16-bit floats
  const SoftmaxCrossEntropyOutputs outputs = softmax_cross_entropy_outputs(input, target, options, inputs);
  Tensor loss = outputs.loss;
  if (by_weights)  // labels of weight 0 only: 0/0, whatever smoothing adds
    loss = mul(loss, as_dtype(div(outputs.denominator, outputs.denominator), loss.dtype()));
  if (options.target.smoothing == 1) {  // 0 times an infinite loss of a label
    options.target.smoothing = 0;
    loss = add(loss, scale(softmax_cross_entropy(input, target, options, inputs), 0));
  }
  return as_dtype(loss, input.dtype());
}

Tensor with_indices(const Tensor& input, const Tensor& target, const Tensor& weight, Kind kind, int64_t ignore_index,
                    double smoothing) {
  check_smoothing(smoothing);
  const Shape& shape = input.shape();
  check_target_shape(shape, target.shape());
  if (weight) check_weight(shape, input.dtype(), weight, smoothing);
  check_target_dtype(shape.rank(), target.dtype());
  refuse_unless(
      !(smoothing > 0 && weight && kind == Kind::mean && target.dtype() == DType::u8 && target.elements() > 0),
      Cause::label_dtype, "RuntimeError", "gather(): Expected dtype int64/int32 for index");

  SoftmaxCrossEntropyOptions options = presets::torch;
  options.axis = class_axis(shape);
  options.target = {.ignore = ignore_index, .smoothing = smoothing};
  options.reduction.kind = kind;
  options.output.dtype = input.dtype();
  const LossInputs inputs{.class_weights = weight ? reshape(weight, {weight.elements()}) : weight};
  return smoothing > 0 ? with_smoothing(input, target, options, inputs)
                       : softmax_cross_entropy(input, target, options, inputs);
}

}  // namespace

Tensor cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight, std::optional<bool> size_average,
                     int64_t ignore_index, std::optional<bool> reduce, std::string_view reduction,
                     double label_smoothing) {
  require<ArgumentError>(input && target, "torch::cross_entropy: input and target must not be empty tensor handles");
  const Kind kind = reduction_kind(size_average, reduce, reduction);
  refuse_unless(input.rank() > 0, Cause::rank, "IndexError",
                "Dimension out of range (expected to be in range of [-1, 0], but got 1)");
  refuse_unless(is_floating(input.dtype()), Cause::type, "NotImplementedError",
                "\"log_softmax_lastdim_kernel_impl\" not implemented for '{}'", scalar_type(input.dtype()));
  const double smoothing = label_smoothing > 0 ? label_smoothing : 0;  // the original looks no closer either
  return input.shape() == target.shape() ? with_probabilities(input, target, weight, kind, ignore_index, smoothing)
                                         : with_indices(input, target, weight, kind, ignore_index, smoothing);
}

}  // namespace xent::compat::torch
