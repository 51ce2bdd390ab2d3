// Ten thousand random calls of softmax_cross_entropy, all options mixed, against the reference: loss,
// log-probabilities, denominator and every gradient, in every type, within 3 eps of the arithmetic and one rounding on
// the store.
#include <doctest/doctest.h>

#include <xent/xent.h>

#include "loss_calls.h"
#include "loss_trials.h"
#include "reference_loss.h"

using namespace xent;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t trials = 1'000;
#else
constexpr uint64_t trials = 10'000;
#endif

// Quarters, exact in every type, of both signs and 0.
std::vector<double> random_upstream(Chance& c, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = 0.25 * static_cast<double>(c.from(-8, 8));
  return values;
}

std::string named(const char* what, const std::string& fault) { return fault.empty() ? "" : what + (" " + fault); }

// The losses by the reference of upstream 1, without gradients: is a mean over nothing an error?
bool must_throw(const Trial& t, const reference::Loss& want) {
  return t.options.reduction.kind == Kind::mean && t.options.reduction.when_zero == WhenZero::error_if_not_positive &&
         want.denominator.value <= 0;
}

std::string check_gradient(const char* what, const Tensor& got, const Tensor& of, const reference::Numbers& want,
                           double eps) {
  if (got.shape() != of.shape() || got.dtype() != of.dtype()) return std::string(what) + " has another shape or dtype";
  return named(what, reference::difference(got, want, eps));
}

std::string check_values(const Trial& t, const Tensor& loss, const Tensor& log_probs, const reference::Loss& want) {
  const DType usual = t.logits.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const DType dtype = t.options.output.dtype.value_or(usual);
  const double eps = reference::eps_of(t.logits.dtype());
  if (loss.dtype() != dtype || (log_probs && log_probs.dtype() != dtype)) return "another dtype";
  std::string fault = named("loss", reference::difference(loss, want.loss, eps));
  if (fault.empty() && log_probs) fault = named("log_probs", reference::difference(log_probs, want.log_probs, eps));
  return fault;
}

// Through the tape, with an upstream of its own at every output.
std::string check_tape(const Trial& t, Chance& c, Coverage& seen) {
  const auto& [logits, target, options, inputs, dense, masked] = t;
  const Tensor& e = inputs.element_weights;
  Tape tape;
  tape.watch(logits);
  const bool want_target = dense && c.one_in(2), want_weights = e && c.one_in(2);
  if (want_target) tape.watch(target);
  if (want_weights) tape.watch(e);
  Tensor loss, log_probs;
  if (options.output.log_probs) {
    const SoftmaxCrossEntropyOutputs outputs = softmax_cross_entropy_outputs(logits, target, options, inputs);
    loss = outputs.loss;
    log_probs = outputs.log_probs;
  } else {
    loss = softmax_cross_entropy(logits, target, options, inputs);
  }
  const bool ones = c.one_in(2);
  std::vector<double> upstream =
      ones ? std::vector<double>(static_cast<size_t>(loss.elements()), 1) : random_upstream(c, loss.elements());
  std::vector<double> upstream_log_probs;
  Gradients gradients;
  if (ones && c.one_in(2)) {
    gradients = tape.backward(loss, {.upstream = Tensor::ones(loss.shape(), loss.dtype())});
    ++seen["backward from the loss"];
  } else {
    Tensor root = sum(cast(loss, DType::f64) * Tensor::from(upstream, loss.shape()));
    if (log_probs && c.one_in(2)) {
      upstream_log_probs = random_upstream(c, log_probs.elements());
      root = root + sum(cast(log_probs, DType::f64) * Tensor::from(upstream_log_probs, log_probs.shape()));
      ++seen["gradient from the log-probabilities"];
    }
    gradients = tape.backward(root);
  }
  const reference::Loss want = reference::loss(logits, target, options, inputs, upstream, upstream_log_probs);
  const double eps = reference::eps_of(logits.dtype());
  std::string fault = check_values(t, loss, log_probs, want);
  if (!fault.empty() || want.divides_by_zero) return fault;
  fault = check_gradient("d logits", gradients[logits], logits, want.grad_logits, eps);
  if (fault.empty() && want_target && !masked) {
    fault = check_gradient("d target", gradients[target], target, want.grad_target, eps);
    ++seen["gradient of a distribution"];
  }
  if (fault.empty() && want_weights && !masked) {
    fault = check_gradient("d element weights", gradients[e], e, want.grad_element_weights, eps);
    ++seen["gradient of element weights"];
  }
  return fault;
}

// Without a tape: forward and then backward from the statistics, or both at once.
std::string check_functions(const Trial& t, Chance& c, Coverage& seen) {
  const auto& [logits, target, options, inputs, dense, masked] = t;
  const double eps = reference::eps_of(logits.dtype());
  const auto outputs = softmax_cross_entropy_outputs(logits, target, options, inputs);
  const std::vector<double> upstream = random_upstream(c, outputs.loss.elements());
  reference::Loss want = reference::loss(logits, target, options, inputs, upstream);
  std::string fault = check_values(t, outputs.loss, outputs.log_probs, want);
  const Tensor denominator = softmax_cross_entropy_denominator(logits.shape(), target, options, inputs);
  if (fault.empty()) fault = named("denominator", reference::difference(outputs.denominator, {want.denominator}, eps));
  if (fault.empty() && options.reduction.kind == Kind::mean && !inputs.normalizer)
    fault = named("denominator alone", reference::difference(denominator, {want.denominator}, eps));
  if (!fault.empty() || want.divides_by_zero) return fault;

  SoftmaxCrossEntropyOptions backward = options;
  backward.output.dtype = c.one_in(2) ? std::optional(any_float(c)) : std::nullopt;
  const Tensor arriving = tensor_of(upstream, outputs.loss.shape(), any_float(c));
  const Tensor grad = softmax_cross_entropy_grad(arriving, logits, target, outputs.statistics, backward, inputs);
  if (grad.dtype() != backward.output.dtype.value_or(logits.dtype())) return "grad has another dtype";
  fault = named("grad", reference::difference(grad, want.grad_logits, eps));
  if (!fault.empty()) return fault;

  Tensor given = c.one_in(2) ? logits.clone() : logits;
  const std::string before = bytes_of(logits);
  want = reference::loss(logits, target, options, inputs);
  const LossAndGrad both =
      softmax_cross_entropy_with_grad(c.one_in(2) ? std::move(given) : Tensor(given), target, options, inputs);
  ++seen["with_grad"];
  fault = named("with_grad: loss", reference::difference(both.loss, want.loss, eps));
  if (fault.empty()) fault = named("with_grad: grad", reference::difference(both.grad, want.grad_logits, eps));
  if (fault.empty() && bytes_of(logits) != before) return "with_grad wrote the caller's logits";
  return fault;
}

std::string fault_of(const Trial& t, Chance& c, Coverage& seen) {
  if (must_throw(t, reference::loss(t.logits, t.target, t.options, t.inputs))) {
    ++seen["a mean over nothing is an error"];
    try {
      softmax_cross_entropy(t.logits, t.target, t.options, t.inputs);
    } catch (const ArgumentError&) {
      return "";
    }
    return "divides by a denominator that is not positive";
  }
  try {
    return c.one_in(2) ? check_tape(t, c, seen) : check_functions(t, c, seen);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("random calls agree with the reference, and nothing that matters is missing among them") {
  Coverage seen;
  for (uint64_t seed = 0; seed < trials; ++seed) {
    Chance chance(seed);
    const Trial trial = random_trial(chance, seen);
    const std::string fault = fault_of(trial, chance, seen);
    CAPTURE(seed);
    CHECK_MESSAGE(fault.empty(), fault, "\n  ", described(trial));
  }
  std::vector<std::string> all(std::begin(what_trials_have), std::end(what_trials_have));
  all.insert(all.end(),
             {"a mean over nothing is an error", "backward from the loss", "with_grad",
              "gradient from the log-probabilities", "gradient of a distribution", "gradient of element weights"});
  for (const std::string& what : all) {
    CAPTURE(what);
    CHECK(seen[what] >= static_cast<int>(trials / 250));
  }
}
