// softmax_cross_entropy, per row with target distribution q (one-hot for an index), class weights w, element weight e:
//
//   m = max_c x_c,   s = sum_c exp(x_c - m)
//   loss = e sum_c w_c q_c (log s - (x_c - m))
//   dx_c = g e ((sum_k w_k q_k) p_c - w_c q_c),   p_c = exp(x_c - m - log s)
//
// g: the upstream gradient, divided by the denominator of a mean. The fusion saves everything of the logits' size but
// the gradient itself: forward reads the logits once from memory and keeps (m, log s) per row, backward reads them once
// and writes once; with a gradient of 1 upstream, both are one pass. The pair is kept apart because m + log s loses the
// digits of log s under a large common offset. Arithmetic is in f32, or f64 for f64, and rounded once when it is
// stored; sums over classes and rows, weights and denominator are in f64. The kernels are in
// cpu/softmax_cross_entropy.cpp.
#include <xent/ops/softmax_cross_entropy.h>

#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/core/tape.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/cpu/loss_kernels.h>
#include <xent/ops/loss_call.h>
#include <xent/ops/loss_rules.h>

namespace xent {

namespace {

using Options = SoftmaxCrossEntropyOptions;
using Kind = Reduction::Kind;

constexpr Mask bits(std::initializer_list<size_t> indices) {
  Mask mask = 0;
  for (const size_t i : indices) mask |= Mask{1} << i;
  return mask;
}
constexpr Mask extras = bits(
    {loss_in::class_weights, loss_in::element_weights, loss_in::normalizer, loss_in::ignore, loss_in::grad_addend});

}  // namespace

constinit const Op softmax_cross_entropy_op = {
    .name = "softmax_cross_entropy",
    .formula = "loss_r = -e_r sum_c w_c q[r,c] log_softmax(x)[r,c], reduced; q one-hot for labels",
    .inputs = 7,
    .infer = loss_rule<&softmax_cross_entropy_op>,
    .forward = {cpu::softmax_cross_entropy, ON_CUDA(softmax_cross_entropy), nullptr,
                ON_CUDA(softmax_cross_entropy_workspace)},
    .backward = {cpu::softmax_cross_entropy_grad, ON_CUDA(softmax_cross_entropy_grad), nullptr,
                 ON_CUDA(softmax_cross_entropy_grad_workspace)},
    .optional = extras,
    .needs_out = everything & ~bits({loss_out::loss, loss_out::log_probs}),
    .differentiable = bits({loss_in::logits, loss_in::target, loss_in::element_weights}),
    .differentiable_out = bits({loss_out::loss, loss_out::log_probs}),
    .checks_labels = true,
    .ready_grad = loss_out::grad,
    .samples = loss_samples,
};

constinit const Op softmax_cross_entropy_in_place_op = {
    .name = "softmax_cross_entropy_in_place",
    .formula = "x = the gradient of softmax_cross_entropy, and the loss",
    .inputs = 7,
    .infer = loss_rule<&softmax_cross_entropy_in_place_op>,
    .forward = {cpu::softmax_cross_entropy_in_place, ON_CUDA(softmax_cross_entropy_in_place), nullptr,
                ON_CUDA(softmax_cross_entropy_in_place_workspace)},
    .optional = extras,
    .updates = bits({loss_in::logits}),
    .checks_labels = true,
    .samples = loss_with_grad_samples,
};

constinit const Op softmax_cross_entropy_grad_op = {
    .name = "softmax_cross_entropy_grad",
    .formula = "dx of softmax_cross_entropy, from statistics or from log-probabilities",
    .inputs = 9,
    .infer = loss_grad_rule,
    .forward = {cpu::softmax_cross_entropy_grad_op, ON_CUDA(softmax_cross_entropy_grad_op), nullptr,
                ON_CUDA(softmax_cross_entropy_grad_op_workspace)},
    .optional = extras | bits({loss_in::statistics}),
    .checks_labels = true,
    .samples = loss_grad_samples,
};

constinit const Op softmax_cross_entropy_denominator_op = {
    .name = "softmax_cross_entropy_denominator",
    .formula = "what a mean over these targets divides by",
    .inputs = 7,
    .infer = loss_denominator_rule,
    .forward = {cpu::softmax_cross_entropy_denominator, ON_CUDA(softmax_cross_entropy_denominator), nullptr,
                ON_CUDA(softmax_cross_entropy_denominator_workspace)},
    .optional = extras | bits({loss_in::logits}),
    .checks_labels = true,
    .samples = loss_denominator_samples,
};

namespace {

// The options with axes resolved, as kernels see them.
LossAttrs resolved(const char* op, const Shape& shape, Options options) {
  require<ShapeError>(shape.rank() > 0, "{}: logits {} have no class axis", op, shape);
  const auto resolve = [&](int64_t axis) {
    require<ShapeError>(axis >= -shape.rank() && axis < shape.rank(), "{}: axis {} is not in [{}, {}) of shape {}", op,
                        axis, -shape.rank(), shape.rank(), shape);
    return shape.resolve(axis);
  };
  options.axis = resolve(options.axis);
  if (options.reduction.kind == Kind::sample_mean) options.reduction.batch_axis = resolve(options.reduction.batch_axis);
  return {options, false, shape[options.axis]};
}

Tensors run(const Tensor& logits, const Tensor& target, const LossAttrs& attrs, const LossInputs& in,
            const Op& op = softmax_cross_entropy_op) {
  return apply(op, {logits, target, in.class_weights, in.element_weights, in.normalizer, in.ignore, in.grad_addend},
               attrs);
}

}  // namespace

Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& target, const Options& options,
                             const LossInputs& inputs) {
  LossAttrs attrs = resolved("softmax_cross_entropy", logits.shape(), options);
  // Where the gradient will surely be asked for, it is written in the same pass; backward hands it on.
  const auto wanted = [](const Tensor& x) { return x && Tape::wanting(x) != 0; };
  const bool scalar = options.reduction.kind == Kind::mean || options.reduction.kind == Kind::sum;
  attrs.with_grad =
      scalar && !options.output.log_probs && wanted(logits) && !wanted(target) && !wanted(inputs.element_weights);
  return run(logits, target, attrs, inputs)[loss_out::loss];
}

SoftmaxCrossEntropyOutputs softmax_cross_entropy_outputs(const Tensor& logits, const Tensor& target,
                                                         const Options& options, const LossInputs& inputs) {
  const Tensors out = run(logits, target, resolved("softmax_cross_entropy", logits.shape(), options), inputs);
  return {.loss = out[loss_out::loss],
          .log_probs = options.output.log_probs ? out[loss_out::log_probs] : Tensor(),
          .denominator = out[loss_out::denominator],
          .statistics = out[loss_out::statistics]};
}

Tensor softmax_cross_entropy_grad(const Tensor& grad_loss, const Tensor& logits, const Tensor& target,
                                  const Tensor& statistics, const Options& options, const LossInputs& in) {
  return apply(softmax_cross_entropy_grad_op,
               {logits, target, in.class_weights, in.element_weights, in.normalizer, in.ignore, in.grad_addend,
                grad_loss, statistics},
               resolved("softmax_cross_entropy_grad", logits.shape(), options))[0];
}

LossAndGrad softmax_cross_entropy_with_grad(Tensor logits, const Tensor& target, const Options& options,
                                            const LossInputs& inputs) {
  LossAttrs attrs = resolved("softmax_cross_entropy", logits.shape(), options);
  attrs.with_grad = true;
  const bool alone = logits && logits.storage().use_count() == 1 && !logits.requires_grad();
  const Op& op = alone ? softmax_cross_entropy_in_place_op : softmax_cross_entropy_op;
  const Tensors out = run(logits, target, attrs, inputs, op);
  return {out[loss_out::loss], alone ? std::move(logits) : out[loss_out::grad]};
}

Tensor softmax_cross_entropy_denominator(const Shape& shape, const Tensor& target, const Options& options,
                                         const LossInputs& in) {
  constexpr const char* op = "softmax_cross_entropy_denominator";
  const LossAttrs attrs = resolved(op, shape, options);
  const Shape expected =
      is_floating(target.dtype()) ? shape : without_axis(shape, static_cast<int>(attrs.options.axis));
  require<ShapeError>(target.shape() == expected, "{}: target {} must be {} for logits {}", op, target.shape(),
                      expected, shape);
  return run(Tensor(), target, attrs, in, softmax_cross_entropy_denominator_op)[0];
}

}  // namespace xent
