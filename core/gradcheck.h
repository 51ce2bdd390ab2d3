// check_gradients and check_op: compares backward with differences of forward; check_device: a device with the CPU.
// Shipped: check your own ops with it.
//
//   GradientReport report = check_gradients(
//       [](std::span<const Tensor> in) { return sum(tanh(in[0])); }, {normal_sample({3, 5}, DType::f64, 1)});
//   if (!report) throw std::runtime_error(report.message);
//
// Along one random direction v of the inputs and one random upstream u of the output, the number u . (f(x + h v) -
// f(x - h v)) / 2h must be the number (backward of u) . v (four points are used, not two). A few evaluations cover an
// input of any size; in f64 the two agree to about 1e-9, so a wrong factor of 1.001 is seen.
#pragma once

#include <span>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <xent/core/op.h>

namespace xent {

struct GradientCheckOptions {
  double tolerance = 1e-6;   // largest error allowed, relative to 1 + |difference quotient|
  double step = 1e-3;        // h; the quotient's error is of order h^4
  int directions = 3;        // random directions per input
  uint64_t seed = 1;
};

struct GradientReport {
  bool passed = true;
  double worst_error = 0;  // relative, over all that was compared
  std::string message;     // empty if passed, else op, input, both numbers

  explicit operator bool() const { return passed; }
};

// Refers to a callable, Tensor f(std::span<const Tensor> inputs), as long as a check runs.
class DifferentiableFunction {
 public:
  template <class F>
    requires std::is_invocable_r_v<Tensor, const F&, std::span<const Tensor>>
  DifferentiableFunction(const F& f)
      : context_(std::addressof(f)), call_([](const void* context, std::span<const Tensor> inputs) -> Tensor {
          return (*static_cast<const F*>(context))(inputs);
        }) {}

  Tensor operator()(std::span<const Tensor> inputs) const { return call_(context_, inputs); }

 private:
  const void* context_;
  Tensor (*call_)(const void*, std::span<const Tensor>);
};

// Checks the gradient of f for each of its floating inputs. Inputs must be f64: throws DTypeError otherwise.
GradientReport check_gradients(const DifferentiableFunction& f, std::vector<Tensor> inputs,
                               const GradientCheckOptions& options = {});

// Checks an op on its own samples: gradients in f64, from its first output, for every differentiable input; backward
// run a second time into the same Gradients must double them; every gradient is fully written, also when no other one is
// wanted; one thread and three give the same bits. Throws ArgumentError for an op without samples.
GradientReport check_op(const Op& op, const GradientCheckOptions& options = {});

// Runs an op's forward, and its backward if it has one, as a Step on each of its samples, and compares the bits of the
// recorded and replayed calls with those of the eager one.
GradientReport check_replay(const Op& op, DType dtype = DType::f32, Device device = Device::cpu());

// Checks an op's kernels for a device on its samples: outputs, gradients and updated inputs must be those of the CPU, to
// 2e-5 of a tensor's largest number in f32 and 1e-12 in f64. With check_op, which runs on the CPU, it checks a backward
// for CUDA; check_replay compares a device with itself alone. Throws ArgumentError for an op without samples, DeviceError
// for one without a kernel there.
//
//   GradientReport report = check_device(my_op, DType::f64, Device::cuda());
GradientReport check_device(const Op& op, DType dtype = DType::f32, Device device = Device::cuda());

struct OpResult {
  std::string name;  // "output 0", "gradient of input 1", "input 2, updated"
  Tensor value;
};

// Runs an op on copies of a sample there, forward and, from the first output, backward, with an upstream that is the same
// on every device. Returns all that came of it.
std::vector<OpResult> run_op(const Op& op, const Sample& sample, Device device);

}  // namespace xent
