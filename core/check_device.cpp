// run_op and check_device: what an op makes of its samples on a device, against what it makes of them on the CPU.
#include <algorithm>
#include <cmath>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/gradcheck.h>
#include <xent/core/op_trial.h>
#include <xent/core/random.h>
#include <xent/core/require.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

// The same normal numbers on every device.
Tensor upstream_like(const Tensor& y) {
  HostRandom random(77);
  Tensor upstream;
  dispatch(y.dtype(), [&]<class T>() {
    std::vector<T> values(static_cast<size_t>(y.elements()));
    for (T& value : values) value = convert<T>(random.normal());
    upstream = Tensor::from(values, y.shape(), y.device());
  });
  return upstream;
}

std::vector<double> doubles(const Tensor& x) {
  std::vector<double> values;
  dispatch(x.dtype(), [&]<class T>() {
    for (const T value : x.to_vector<T>()) values.push_back(convert<double>(value));
  });
  return values;
}

// Compares two tensors, element by element, relative to the largest number and at least 1. NaNs and infinities must be
// the same ones.
void compare(GradientReport& report, const Tensor& expected, const Tensor& got, double allowed,
             const std::string& where) {
  const std::vector<double> x = doubles(expected), y = doubles(got);
  double scale = 1;
  for (const double value : x)
    if (std::isfinite(value)) scale = std::max(scale, std::abs(value));
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    const bool finite = std::isfinite(x[i]) && std::isfinite(y[i]);
    const double error = finite ? std::abs(x[i] - y[i]) / scale : HUGE_VAL;
    report.worst_error = std::max(report.worst_error, error);
    if (error <= allowed || !report.passed) continue;
    report.passed = false;
    report.message = fmt::format(
        "{}, element {} of {} {}: {} gives {:.9g}, {} gives {:.9g} (relative error {:.2g}, "
        "allowed {:.2g})",
        where, i, got.dtype(), got.shape(), got.device(), y[i], expected.device(), x[i], error, allowed);
  }
}

}  // namespace

std::vector<OpResult> run_op(const Op& op, const Sample& sample, Device device) {
  const bool has_backward = op.backward || op.view;
  std::vector<Tensor> inputs;
  std::vector<OpResult> results;
  Tape tape;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const Tensor& input = sample.inputs[i];
    inputs.push_back(input ? input.clone().to(device) : input);
    if (has_backward && wants_gradient(op, input, i)) tape.watch(inputs[i]);
  }
  for (const Tensor& output : apply(op, inputs, sample.attrs))
    results.push_back({fmt::format("output {}", results.size()), output});
  if (has_backward && is_floating(results[0].value.dtype())) {
    const Tensor y = results[0].value;
    const Gradients gradients = tape.backward(y, {.upstream = upstream_like(y)});
    for (size_t i = 0; i < inputs.size(); ++i)
      if (const Tensor* gradient = inputs[i] ? gradients.find(inputs[i]) : nullptr)
        results.push_back({fmt::format("gradient of input {}", i), *gradient});
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.updates >> i & 1 && inputs[i]) results.push_back({fmt::format("input {}, updated", i), inputs[i]});
  return results;
}

GradientReport check_device(const Op& op, DType dtype, Device device) {
  require<ArgumentError>(op.samples != nullptr, "check_device: {} has no samples", op.name);
  const PoisonScope poison;
  GradientReport report;
  const Samples samples = op.samples(dtype);
  for (size_t s = 0; s < samples.size() && report.passed; ++s) {
    const std::vector<OpResult> expected = run_op(op, samples[s], Device::cpu()), got = run_op(op, samples[s], device);
    for (size_t i = 0; i < got.size(); ++i) {
      const double allowed = is_index(got[i].value.dtype()) ? 0 : dtype == DType::f64 ? 1e-12 : 2e-5;
      compare(report, expected[i].value, got[i].value, allowed,
              fmt::format("{}, sample {}, {}", op.name, s, got[i].name));
    }
  }
  return report;
}

}  // namespace xent
