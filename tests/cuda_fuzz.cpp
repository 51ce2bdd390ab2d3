// Random calls of every op on the emulated GPU: what the CPU gives or throws, word for word, with the same bits in
// every order of threads and blocks and in a second run; what an op does not update keeps its bits, and after an error
// the next call works. Seeds are fixed: a failure can be repeated.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "cuda_orders.h"
#include "op_trials.h"

using namespace xent;
using namespace op_trials;

namespace {

struct Outcome {
  std::string error;            // or "", and then
  std::vector<Tensor> results;  // on the CPU: the result and gradients, if there was no error, and then the inputs
  size_t inputs = 0;            // of the results
};

Tensor host(const Tensor& x) { return x ? x.to(Device::cpu()) : x; }

// Makes one call and its backward.
Outcome run(const Op& op, uint64_t seed, bool huge, Device device) {
  Chance c(seed);
  c.device = device;
  c.huge = huge;
  const Trial trial = trial_of(op, c);
  Outcome outcome;
  try {
    std::vector<Tensor> results, watched;
    Tape tape;
    for (size_t i = 0; i < trial.inputs.size(); ++i) {
      const Tensor& x = trial.inputs[i];
      const bool differentiable = op.differentiable >> std::min<size_t>(i, 31) & 1;
      if (x && is_floating(x.dtype()) && differentiable && c.one_in(2)) watched.push_back(x);
    }
    for (const Tensor& x : watched) tape.watch(x);
    results.push_back(trial.call());
    if (results[0] && tape.size() > 0) {
      const Tensor upstream = c.tensor(results[0].shape(), results[0].dtype());
      const Gradients gradients = tape.backward(results[0], {.upstream = upstream});
      for (const Tensor& x : watched) results.push_back(gradients[x]);
    }
    for (const Tensor& x : results) outcome.results.push_back(host(x));
  } catch (const Error& error) {  // any other exception fails the test
    outcome.error = error.what();
    outcome.results.clear();
  }
  for (const Tensor& x : trial.inputs) outcome.results.push_back(host(x));
  outcome.inputs = trial.inputs.size();
  return outcome;
}

// Sums of few terms, divided and put through functions: some units in the last place.
double bound_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 1e-12;
    case DType::f32: return 2e-5;
    case DType::f16: return 0x1p-10;
    case DType::bf16: return 0x1p-7;
    default: return 0;
  }
}

// The bound of a result: that of the roughest number that it may be made of.
double bound_of(const Tensor& result, const Outcome& outcome) {
  double bound = bound_of(result.dtype());
  if (bound == 0) return 0;
  for (size_t i = outcome.results.size() - outcome.inputs; i < outcome.results.size(); ++i)
    if (outcome.results[i]) bound = std::max(bound, bound_of(outcome.results[i].dtype()));
  return bound;
}

// The largest difference relative to the largest finite number and at least 1; NaNs and infinities must be the same.
double distance(const Tensor& a, const Tensor& b) {
  if (same_bits(a, b)) return 0;
  const std::vector<double> x = cast(a, DType::f64).to_vector<double>(), y = cast(b, DType::f64).to_vector<double>();
  double worst = 0, scale = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isfinite(x[i])) scale = std::max(scale, std::abs(x[i]));
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(x[i] - y[i]));
  }
  return worst / scale;
}

// Does the order of its sums decide whether huge numbers overflow?
bool adds_up(const Op& op) {
  for (const Op* other : {&matmul_op,
                          &linear_op,
                          &conv2d_op,
                          &conv2d_max_pool2d_op,
                          &avg_pool2d_op,
                          &global_avg_pool2d_op,
                          &batch_norm2d_op,
                          &batch_norm2d_frozen_op,
                          &layer_norm_op,
                          &sum_op,
                          &mean_op,
                          &softmax_op,
                          &log_softmax_op,
                          &softmax_cross_entropy_op,
                          &softmax_cross_entropy_in_place_op,
                          &softmax_cross_entropy_grad_op,
                          &softmax_cross_entropy_denominator_op,
                          &accumulate_squares_op,
                          &clip_to_norm_op,
                          &add_op,
                          &sub_op,
                          &mul_op,
                          &div_op})
    if (&op == other) return true;
  return false;
}

std::string fault_of(const Op& op, uint64_t seed, bool huge) {
  using emulator::Order;
  const Outcome want = run(op, seed, huge, Device::cpu());
  Outcome first;
  bool again = false;
  for (const Order order : {Order::shuffled, Order::forward, Order::backward, Order::shuffled}) {
    const emulator::ScheduleScope scope({order, 1});
    const Outcome got = run(op, seed, huge, Device::cuda());
    if (!again) first = got;
    again = true;
    if (got.error != want.error) return "got error '" + got.error + "', want '" + want.error + "'";
    if (got.results.size() != want.results.size()) return "another number of results";
    for (size_t i = 0; i < got.results.size(); ++i)
      if (!same_bits(got.results[i], first.results[i])) return "result " + std::to_string(i) + " has other bits";
    if (takes_one_order) break;
  }
  for (size_t i = 0; i < want.results.size(); ++i) {
    const Tensor &got = first.results[i], &expected = want.results[i];
    const std::string which = "result " + std::to_string(i);
    if (static_cast<bool>(got) != static_cast<bool>(expected)) return which + " is there or not";
    if (!got) continue;
    if (got.shape() != expected.shape() || got.dtype() != expected.dtype())
      return which + " has another shape or dtype";
    const bool is_input = i + want.inputs >= want.results.size();
    if (is_input && !op.updates && !same_bits(got, expected)) return which + ", an input, was written";
    if (huge && adds_up(op)) continue;
    if (distance(expected, got) > bound_of(got, want))
      return which + " differs by " + std::to_string(distance(expected, got)) + ": " + got.str() + " for " +
             expected.str();
  }
  return "";
}

}  // namespace

TEST_CASE("every op gives on CUDA what it gives on the CPU, or throws the same error, whatever it is called with") {
  for (const Op* op : all_ops()) {
    if (op == &fill_op || op == &accumulate_op) continue;  // the engine's own, without a public function
    const std::string name = op->name;
    CAPTURE(name);
    const uint64_t calls = looks_for_races ? 5 : (op->checks_labels ? 300 : 100) / trials_shared_by;
    for (uint64_t seed = 0; seed < calls; ++seed) {
      CAPTURE(seed);
      const std::string fault = fault_of(*op, seed, seed % 3 == 0);
      CHECK_MESSAGE(fault.empty(), fault);
    }
  }
}
