// An op from outside the library with a kernel for CUDA, as docs/adding_an_op.md makes it; and check_device is checked.
#include <doctest/doctest.h>

#include <xent/core/on_cuda.h>
#include <xent/xent.h>

#include "cuda_own_op.h"
#include "small_ops.h"

using namespace xent;

namespace {

void leaky_relu_forward(const Call& call) {
  const double slope = call.attrs.as<LeakyReluAttrs>().slope;
  small::write_each(call.out[0], [&]<class T>(int64_t i) {
    const T x = call.in[0].as<T>()[i];
    return x <= 0 ? static_cast<T>(slope) * x : x;
  });
}

void leaky_relu_grad(const Call& call) {
  const double slope = call.attrs.as<LeakyReluAttrs>().slope;
  small::write_each(call.grad_in[0], [&]<class T>(int64_t i) {
    const T dy = call.grad_out[0].as<T>()[i];
    return call.in[0].as<T>()[i] <= 0 ? static_cast<T>(slope) * dy : dy;
  });
}

Samples leaky_relu_samples(DType dtype) {
  return {{{nonzero_sample({3, 5}, dtype, 1)}, LeakyReluAttrs{0.125}},
          {{nonzero_sample({}, dtype, 2)}, LeakyReluAttrs{0.5}},
          {{nonzero_sample({0, 4}, dtype, 3)}, LeakyReluAttrs{0.5}},
          {{nonzero_sample({1027}, dtype, 4)}, LeakyReluAttrs{0.25}}};
}

constinit const Op leaky_relu_op = {
    .name = "leaky_relu",
    .formula = "y = x if x > 0, else slope x",
    .infer = same_as_input,
    .forward = {leaky_relu_forward, ON_CUDA(leaky_relu)},
    .backward = {leaky_relu_grad, ON_CUDA(leaky_relu_grad)},
    .needs_out = nothing,
    .samples = leaky_relu_samples,
};

}  // namespace

TEST_CASE("an op of one's own with a kernel for CUDA passes all checks") {
  for (const GradientReport& report :
       {check_op(leaky_relu_op), check_device(leaky_relu_op), check_device(leaky_relu_op, DType::f64),
        check_replay(leaky_relu_op, DType::f32, Device::cuda())})
    CHECK_MESSAGE(report.passed, report.message);
}

TEST_CASE("check_device finds a backward that is wrong on CUDA alone, and says where") {
  Op wrong = leaky_relu_op;
  wrong.backward.cuda = ON_CUDA(leaky_relu_wrong_grad);
  CHECK(check_op(wrong).passed);  // it runs on the CPU
  for (const DType dtype : {DType::f32, DType::f64}) {
    const GradientReport report = check_device(wrong, dtype);
    CHECK_FALSE(report.passed);
    CHECK(report.message.starts_with("leaky_relu, sample 0, gradient of input 0, element "));
  }
}

TEST_CASE("check_device finds a kernel that leaves elements unwritten") {
  Op wrong = leaky_relu_op;
  wrong.forward.cuda = [](const Call&) {};
  CHECK_FALSE(check_device(wrong).passed);
}

TEST_CASE("check_device wants samples, and kernels for the device") {
  Op wrong = leaky_relu_op;
  wrong.backward.cuda = nullptr;
  CHECK_THROWS_AS(check_device(wrong), DeviceError);
  wrong.samples = nullptr;
  CHECK_THROWS_AS(check_device(wrong), ArgumentError);
}
