// What every op of the table owes on CUDA: what it gives on the CPU, the same bits in every order of threads and
// blocks, and the same bits when it is replayed as a graph.
#include <algorithm>
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

bool has_backward(const Op& op) { return op.backward || op.view; }

// Runs an op forward, and backward from its first output, on copies of a sample there. Returns the outputs, what the op
// updated, and the gradients.
std::vector<Tensor> run(const Op& op, const Sample& sample, Device device) {
  std::vector<Tensor> inputs, results;
  Tape tape;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const Tensor& input = sample.inputs[i];
    inputs.push_back(input ? input.clone().to(device) : input);
    const bool wanted = input && is_floating(input.dtype()) && op.differentiable >> i & 1 && !(op.updates >> i & 1);
    if (has_backward(op) && wanted) tape.watch(inputs[i]);
  }
  for (const Tensor& output : apply(op, inputs, sample.attrs)) results.push_back(output);
  if (has_backward(op) && is_floating(results[0].dtype())) {
    const Tensor upstream = normal_sample(results[0].shape(), results[0].dtype(), 77).to(device);
    const Gradients gradients = tape.backward(results[0], {.upstream = upstream});
    for (const Tensor& input : inputs)
      if (const Tensor* gradient = input ? gradients.find(input) : nullptr) results.push_back(*gradient);
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.updates >> i & 1 && inputs[i]) results.push_back(inputs[i]);
  return results;
}

// The largest difference, relative to the largest number and at least 1; NaNs and infinities must be the same ones.
double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = cast(a, DType::f64).to_vector<double>(), y = cast(b, DType::f64).to_vector<double>();
  double worst = 0, scale = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(x[i] - y[i]));
    scale = std::max(scale, std::abs(x[i]));
  }
  return worst / scale;
}

bool on_cuda(const Op& op) { return (op.view || op.forward.cuda) && (!op.backward.cpu || op.backward.cuda); }

}  // namespace

TEST_CASE("every op of the table has its kernels for CUDA") {
  for (const Op* op : all_ops()) {
    CAPTURE(op->name);
    CHECK(on_cuda(*op));
  }
}

// Samples have numbers of size 1 and sums of a few thousand of them. The two devices add in different orders and
// their elementary functions differ by an ulp or two: some 1e-6 in f32, 1e-15 in f64, with room for cancellation.
TEST_CASE("every op gives on CUDA what it gives on the CPU, forward and backward, the same bits in every order") {
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    for (const DType dtype : {DType::f32, DType::f64}) {
      if (looks_for_races && dtype == DType::f64) continue;
      const Samples samples = op->samples(dtype);
      for (size_t s = 0; s < samples.size(); ++s) {
        CAPTURE(op->name);
        CAPTURE(name(dtype));
        CAPTURE(s);
        const std::vector<Tensor> expected = run(*op, samples[s], Device::cpu());
        const std::vector<Tensor> got = in_every_order([&] { return run(*op, samples[s], Device::cuda()); });
        REQUIRE(got.size() == expected.size());
        for (size_t i = 0; i < got.size(); ++i) {
          CAPTURE(i);
          CHECK(got[i].shape() == expected[i].shape());
          REQUIRE(got[i].dtype() == expected[i].dtype());
          CHECK(distance(expected[i], got[i]) <= (is_index(got[i].dtype()) ? 0 : dtype == DType::f32 ? 2e-5 : 1e-12));
        }
      }
    }
  }
}

TEST_CASE("every op gives the same bits on CUDA eager, recorded, and replayed as a graph") {
  if (looks_for_races) return;  // these are the kernels of the test before
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    for (const DType dtype : {DType::f32, DType::f64}) {
      const GradientReport report = check_replay(*op, dtype, Device::cuda());
      CHECK_MESSAGE(report.passed, report.message);
    }
  }
}
