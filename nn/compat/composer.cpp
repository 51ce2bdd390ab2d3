#include <xent/nn/compat/composer.h>

#include <algorithm>

#include <xent/core/step_state.h>
#include <xent/core/warning.h>
#include <xent/nn/compat/as_dtype.h>
#include <xent/nn/compat/presets.h>
#include <xent/nn/compat/refuse_unless.h>
#include <xent/nn/compat/torch.h>
#include <xent/nn/compat/torch_types.h>

namespace xent::compat::composer {

namespace {

using Kind = Reduction::Kind;

Kind reduction_kind(std::string_view reduction) {
  if (reduction == "none") return Kind::none;
  if (reduction == "sum") return Kind::sum;
  refuse_unless(reduction == "mean", Cause::reduction, "ValueError", "{} reduction not supported.", reduction);
  return Kind::mean;
}

// Returns one weight per class. The original multiplies with the classes on the last axis, so leading extents of 1 do
// not matter and a single weight stretches.
Tensor class_weights(const Tensor& logits, const Tensor& weight) {
  if (!weight) return {};
  const int64_t classes = logits.shape()[1];
  const int64_t count = weight.rank() > 0 ? weight.shape()[-1] : 1;
  refuse_unless(count == classes || count == 1, Cause::weight_shape, "RuntimeError",
                "The size of tensor a ({}) must match the size of tensor b ({}) at non-singleton dimension {}", classes,
                count, logits.rank() - 1);
  refuse_unless(weight.elements() == count && weight.rank() <= logits.rank(), Cause::weight_shape, "RuntimeError",
                "soft_cross_entropy: weight {} must be [{}] or [1]", weight.shape(), classes);
  const Tensor row = reshape(torch::beside(logits, weight), {count});
  if (count == classes) return row;
  const DType dtype = torch::arithmetic(logits.dtype());
  return mul(as_dtype(row, dtype), Tensor::ones({classes}, dtype, logits.device()));
}

// The sum of the target decides on the host; inside a Step, where no value can be read, on the device. But for f64 it
// is compared in f32, as in the original: rows that sum to 1 within their rounding are no reason to warn.
void check_mass(double mass, int64_t rows, DType dtype) {
  refuse_unless(!(mass <= 0), Cause::no_nonzero_target, "ValueError", "No targets have nonzero probability");
  const auto whole = static_cast<double>(rows);
  if (dtype == DType::f64 ? mass < whole : static_cast<float>(mass) < static_cast<float>(whole))
    warn("Some targets have less than 1 total probability.");
}

Tensor with_distribution(const Tensor& input, const Tensor& target, const Tensor& weight, Kind kind) {
  refuse_unless(input.rank() > 1, Cause::rank, "IndexError",
                "Dimension out of range (expected to be in range of [-1, 0], but got 1)");
  refuse_unless(is_floating(input.dtype()), Cause::type, "NotImplementedError",
                "\"log_softmax_lastdim_kernel_impl\" not implemented for '{}'", torch::scalar_type(input.dtype()));
  SoftmaxCrossEntropyOptions options = presets::composer;
  options.reduction.kind = kind;
  const DType common = torch::promote(input.dtype(), target.dtype());
  options.output.dtype = common;
  const Tensor logits = common == DType::f64 ? as_dtype(input, common) : input;
  const Tensor distribution = torch::beside(logits, target);
  const LossInputs inputs{.class_weights = class_weights(logits, weight)};
  if (kind == Kind::mean && !running_step()) {
    const Tensor mass = softmax_cross_entropy_denominator(logits.shape(), distribution, options, inputs);
    check_mass(mass.item(), input.elements() / std::max<int64_t>(input.shape()[1], 1), target.dtype());
  }
  return softmax_cross_entropy(logits, distribution, options, inputs);
}

}  // namespace

Tensor soft_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight,
                          std::optional<bool> size_average, int64_t ignore_index, std::optional<bool> reduce,
                          std::string_view reduction) {
  require<ArgumentError>(input && target, "composer::soft_cross_entropy: input and target must not be empty handles");
  if (target.shape() == input.shape()) {
    const Kind kind = reduction_kind(reduction);
    refuse_unless(!size_average, Cause::reduction, "AssertionError", "size_average is deprecated");
    refuse_unless(!reduce, Cause::reduction, "AssertionError", "reduce is deprecated");
    if (ignore_index != -100)
      warn("ignore_index not supported when using dense labels. Ignoring targets with 0 probability.");
    return with_distribution(input, target, weight, kind);
  }
  refuse_unless(input.rank() == target.rank() + 1, Cause::shape, "RuntimeError",
                "Unable to infer indices or one_hot. Targets has shape torch.Size({}) and the inputs to cross entropy "
                "has shape torch.Size({}). For one_hot, expect targets.shape == inputs.shape. For indices, expect "
                "inputs.ndim == targets.ndim + 1",
                target.shape(), input.shape());
  return torch::cross_entropy(input, target, weight, size_average, ignore_index, reduce, reduction);
}

}  // namespace xent::compat::composer
