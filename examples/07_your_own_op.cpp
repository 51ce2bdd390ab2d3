// Adds an op, leaky_relu, outside the library: formula, shape rule, kernels and samples are all it takes.
//
// New here: an op of one's own, with its gradient checked. docs/adding_an_op.md goes through it piece by piece.
//
// leaky_relu:  y_i = x_i if x_i > 0, else slope x_i      dx_i = dy_i if x_i > 0, else slope dy_i
#include <cstdio>
#include <string>

#include <xent/xent.h>

namespace {

using namespace xent;

constexpr int64_t grain = 1 << 15;  // elements per chunk; less stays on one thread

struct LeakyReluAttrs {
  double slope;
  bool operator==(const LeakyReluAttrs&) const = default;
};

Specs infer_leaky_relu(std::span<const Spec> in, const Attrs&) {
  if (in[0].dtype != DType::f32 && in[0].dtype != DType::f64)
    throw DTypeError("leaky_relu: takes f32 and f64, not " + std::string(name(in[0].dtype)) + "; cast first");
  return {in[0]};  // one output, like the input
}

void leaky_relu_forward(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T slope = static_cast<T>(call.attrs.as<LeakyReluAttrs>().slope);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.in[0].shape.elements(), grain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = x[i] <= 0 ? slope * x[i] : x[i];
    });
  });
}

void leaky_relu_grad(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T slope = static_cast<T>(call.attrs.as<LeakyReluAttrs>().slope);
    const T* x = call.in[0].as<T>();
    const T* dy = call.grad_out[0].as<T>();
    T* dx = call.grad_in[0].as<T>();
    parallel_for(call.in[0].shape.elements(), grain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) dx[i] = x[i] <= 0 ? slope * dy[i] : dy[i];
    });
  });
}

// What checks run on: a few odd shapes, one of them longer than a chunk, and no element near the kink at 0.
Samples leaky_relu_samples(DType dtype) {
  return {{{nonzero_sample({3, 5}, dtype, 1)}, LeakyReluAttrs{0.125}},
          {{nonzero_sample({}, dtype, 2)}, LeakyReluAttrs{0.5}},
          {{nonzero_sample({grain + 7}, dtype, 3)}, LeakyReluAttrs{0}}};
}

constinit const Op leaky_relu_op = {
    .name = "leaky_relu",
    .formula = "y = x if x > 0, else slope x",
    .infer = infer_leaky_relu,
    .forward = {leaky_relu_forward},
    .backward = {leaky_relu_grad},
    .needs_out = nothing,  // backward reads x only, so the tape need not keep y
    .samples = leaky_relu_samples,
};

// Multiplies what is not above 0 by slope. Any shape, f32 or f64.
Tensor leaky_relu(const Tensor& x, double slope = 0.01) { return apply(leaky_relu_op, {x}, LeakyReluAttrs{slope})[0]; }

}  // namespace

int main() {
  for (const GradientReport& report : {check_op(leaky_relu_op), check_replay(leaky_relu_op)})
    if (!report) return std::printf("%s\n", report.message.c_str()), 1;

  Tensor x = Tensor::from({-2, 3}, {2});
  Tape tape;
  tape.watch(x);
  Tensor y = leaky_relu(x, 0.25);
  Gradients gradients = tape.backward(sum(y));
  std::printf("%s\n%s\n", y.str().c_str(), gradients[x].str().c_str());
  std::printf("leaky_relu passes check_op and check_replay\n");
}
