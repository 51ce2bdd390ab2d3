// Random calls of softmax_cross_entropy on the emulated GPU, all options, dtypes and shapes mixed, against the
// reference: loss, log-probabilities, denominator and every gradient, within 3 eps of the arithmetic and one rounding
// on the store, the same bits in every order of threads and blocks.
#include <doctest/doctest.h>

#include "cuda_loss_run.h"
#include "loss_trials.h"
#include "reference_loss.h"

using namespace xent;

namespace {

const uint64_t trials = looks_for_races ? 40 : 500 / trials_shared_by;

// Quarters, exact in every type, of both signs and 0.
std::vector<double> random_upstream(Chance& c, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = 0.25 * static_cast<double>(c.from(-8, 8));
  return values;
}

struct Judge {
  const Trial& t;
  double eps;
  std::string fault = {};

  void same(const char* what, const Tensor& got, const reference::Numbers& want) {
    if (!fault.empty()) return;
    const std::string difference = reference::difference(got, want, eps);
    if (!difference.empty()) fault = what + (" " + difference);
  }
};

bool must_throw(const Trial& t, const reference::Loss& want) {
  return t.options.reduction.kind == Kind::mean && t.options.reduction.when_zero == WhenZero::error_if_not_positive &&
         want.denominator.value <= 0;
}

std::string fault_of(const Trial& t, Chance& c) {
  LossRun run = {.logits = t.logits,
                 .target = t.target,
                 .options = t.options,
                 .inputs = t.inputs,
                 .with_grad = true,
                 .offset = c.any<int64_t>({0, 1, 3})};
  run.options.axis = t.logits.shape().resolve(run.options.axis);
  const reference::Loss plain = reference::loss(t.logits, t.target, t.options, t.inputs);
  if (must_throw(t, plain)) {
    try {
      run.forward()[loss_out::loss].to(Device::cpu());
    } catch (const ArgumentError& error) {
      return std::string(error.what()).find("must be positive") == std::string::npos ? error.what() : "";
    }
    return "divides by a denominator that is not positive";
  }

  Judge judge{t, reference::eps_of(t.logits.dtype())};
  const std::vector<Tensor> out = in_every_order([&] { return run.forward(); });
  judge.same("loss", out[loss_out::loss], plain.loss);
  judge.same("denominator", out[loss_out::denominator], {plain.denominator});
  if (t.options.output.log_probs) judge.same("log_probs", out[loss_out::log_probs], plain.log_probs);
  if (t.options.reduction.kind == Kind::mean && !t.inputs.normalizer)
    judge.same("denominator alone", in_every_order([&] { return run.denominator(); })[0], {plain.denominator});
  if (!judge.fault.empty() || plain.divides_by_zero) return judge.fault;
  judge.same("grad of forward", out[loss_out::grad], plain.grad_logits);
  const std::vector<Tensor> in_place = in_every_order([&] { return run.in_place(); });
  if (!same_bits(in_place[0], out[loss_out::loss])) return "the loss in place has other bits";
  if (!same_bits(in_place[1], out[loss_out::grad])) return "the gradient in place has other bits";

  // Backward, with gradients of its own at every output.
  const std::vector<double> upstream = random_upstream(c, out[loss_out::loss].elements());
  const bool from_log_probs = t.options.output.log_probs && c.one_in(2);
  const std::vector<double> at_log_probs = random_upstream(c, from_log_probs ? t.logits.elements() : 0);
  const reference::Loss want = reference::loss(t.logits, t.target, t.options, t.inputs, upstream, at_log_probs);
  const DType loss_dtype = out[loss_out::loss].dtype();
  const Tensor grad_loss = tensor_of(upstream, out[loss_out::loss].shape(), loss_dtype);
  const Tensor grad_log_probs = from_log_probs ? tensor_of(at_log_probs, t.logits.shape(), loss_dtype) : Tensor();
  const bool of_target = t.dense && c.one_in(2), of_weights = t.inputs.element_weights && c.one_in(2);
  const bool of_logits = (!of_target && !of_weights) || c.one_in(2);
  const std::vector<Tensor> gradients =
      in_every_order([&] { return run.backward(grad_loss, grad_log_probs, of_logits, of_target, of_weights); });
  if (of_logits) judge.same("d logits", gradients[0], want.grad_logits);
  if (of_target && !t.masked) judge.same("d target", gradients[1], want.grad_target);
  if (of_weights && !t.masked) judge.same("d element weights", gradients[2], want.grad_element_weights);

  // The gradient as an op of its own, in another dtype.
  if (c.one_in(2)) run.options.output.dtype = any_float(c);
  const Tensor arriving = tensor_of(upstream, out[loss_out::loss].shape(), any_float(c));
  const reference::Loss alone = reference::loss(t.logits, t.target, t.options, t.inputs, upstream);
  judge.same("grad", in_every_order([&] { return run.grad_op(arriving, out[loss_out::statistics]); })[0],
             alone.grad_logits);
  return judge.fault;
}

}  // namespace

TEST_CASE("random calls on CUDA agree with the reference, with the same bits in every order") {
  Coverage seen;
  for (uint64_t seed = 0; seed < trials; ++seed) {
    Chance chance(seed + 1'000'000);
    const Trial trial = random_trial(chance, seen);
    CAPTURE(seed);
    std::string fault;
    try {
      fault = fault_of(trial, chance);
    } catch (const Error& error) {
      fault = error.what();
    }
    CHECK_MESSAGE(fault.empty(), fault, "\n  ", described(trial));
  }
  if (looks_for_races) return;
  for (const char* what : what_trials_have) {
    CAPTURE(what);
    CHECK(seen[what] > 0);
  }
}
