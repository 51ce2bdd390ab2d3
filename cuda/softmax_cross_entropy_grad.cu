// The gradient of softmax_cross_entropy on the GPU, and its denominator alone: which kernels a call takes.
//
//   prepare_loss             the denominator and the scale                                  loss_scalars.cu
//   loss_backward            from the pairs, rows next to each other                        loss_backward.cuh
//   loss_general_backward    distributions, options of other systems, gradients of targets  loss_general.cuh
//                            and weights, classes on any axis
//
// Two launches. The logits are read once and the gradient is written once.
#include <xent/cuda/loss_backward.cuh>
#include <xent/cuda/loss_call.cuh>
#include <xent/cuda/loss_general.cuh>

namespace xent::cuda {

namespace {

using Kind = Reduction::Kind;

struct LossGrads {
  Slice grad_loss, grad_log_probs, statistics;
  Slice logits, target, element_weights;  // where the gradients go
};

template <class T>
void backward(const Call& call, const LossGrads& grads, const LossTarget& target) {
  const SoftmaxCrossEntropyOptions& options = call.attrs.as<LossAttrs>().options;
  const auto& [kind, denominator, when_zero, batch_axis] = options.reduction;
  using Denominator = Reduction::Denominator;
  const Slice& logits = call.in[loss_in::logits];
  const LossRows<T> rows = {.logits = logits.as<T>(),
                            .target = target,
                            .scalars = LossScratch(call).scalars,
                            .grad = grads.logits.as<T>(),
                            .statistics = grads.statistics.as<Wide<T>>()};
  const bool one_number = kind == Kind::sum || kind == Kind::mean;
  const FloatingNumbers grad_losses = one_number ? FloatingNumbers() : numbers_of(grads.grad_loss);
  const bool plain = is_plain(call, target, options);
  if (plain && target.inner.by == 1 && kind != Kind::sample_mean && grads.grad_loss && !grads.grad_log_probs &&
      grads.logits && grads.logits.dtype == dtype_of<T> && !grads.target && !grads.element_weights)
    return start_backward(call, rows, grad_losses);

  LossExtras extras = {
      .softmax = options.input == SoftmaxCrossEntropyOptions::Input::logits,
      .plain = plain,
      .from_loss = static_cast<bool>(grads.grad_loss),
      .weights_in_mass = denominator == Denominator::weight_sum,
      .element_in_denominator = denominator == Denominator::element_weights,
      .mass_in_denominator = denominator == Denominator::weight_sum || denominator == Denominator::target_mass,
      .grad = numbers_of(grads.logits),
      .addend = numbers_of(call.in[loss_in::grad_addend]),
      .grad_losses = grad_losses,
      .grad_log_probs = numbers_of(grads.grad_log_probs),
      .grad_target = numbers_of(grads.target),
      .grad_element_weights = numbers_of(grads.element_weights)};
  if (kind == Kind::sample_mean) {
    const SampleRows samples(logits.shape, static_cast<int>(options.axis), batch_axis);
    extras.after = Divisor(samples.after);
    extras.samples = Divisor(std::max<int64_t>(1, samples.samples));
    extras.by_sample = true;
  }
  with_group(target.rows(), target.classes(), target.inner.by, most_loss_threads / group_threads,
             [&]<class Group>(Grid grid) {
               start(call, "loss_general_backward", grid, kernels::loss_general_backward<T, Group>, rows, extras);
             });
}

void backward(const Call& call, const LossGrads& grads, LossPreparation p) {
  const Kind kind = p.options.reduction.kind;
  if (kind == Kind::sum || kind == Kind::mean) p.grad_loss = numbers_of(grads.grad_loss);
  prepare_loss(call, p);
  dispatch_floating(call.in[loss_in::logits].dtype, [&]<class T>() { backward<T>(call, grads, p.target); });
}

}  // namespace

// Unlike the CPU's this computes the gradient anew where forward has written one for an upstream of 1: that takes as
// many bytes as multiplying it, and nobody has to look at the upstream first.
void softmax_cross_entropy_grad(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  LossPreparation p = preparation_of("softmax_cross_entropy", call, call.in[loss_in::logits].shape, attrs);
  p.checks_labels = p.sums_shares = false;
  p.denominator_at = call.out[loss_out::denominator].as<double>();
  p.normalizer = numbers_of(call.in[loss_in::normalizer]);
  p.total = call.out[loss_out::total].as<double>();
  backward(call,
           {.grad_loss = call.grad_out[loss_out::loss],
            .grad_log_probs = call.grad_out[loss_out::log_probs],
            .statistics = call.out[loss_out::statistics],
            .logits = call.grad_in[loss_in::logits],
            .target = call.grad_in[loss_in::target],
            .element_weights = call.grad_in[loss_in::element_weights]},
           p);
}

void softmax_cross_entropy_grad_op(const Call& call) {
  const LossPreparation p = preparation_of_rows("softmax_cross_entropy_grad", call, call.attrs.as<LossAttrs>());
  backward(call,
           {.grad_loss = call.in[loss_in::grad_loss],
            .grad_log_probs = {},
            .statistics = call.in[loss_in::statistics],
            .logits = call.out[0],
            .target = {},
            .element_weights = {}},
           p);
  validate(call, p);
}

void softmax_cross_entropy_denominator(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  LossPreparation p = preparation_of("softmax_cross_entropy_denominator", call, shape_of_logits(call, attrs), attrs);
  p.scalars = nullptr;
  p.denominator_out = call.out[0].as<double>();
  prepare_loss(call, p);
  validate(call, p);
}

size_t softmax_cross_entropy_grad_workspace(const Call&) { return loss_scalars_bytes + loss_sums_bytes; }
size_t softmax_cross_entropy_grad_op_workspace(const Call&) { return loss_scalars_bytes + loss_sums_bytes; }
size_t softmax_cross_entropy_denominator_workspace(const Call&) { return loss_scalars_bytes + loss_sums_bytes; }

}  // namespace xent::cuda
