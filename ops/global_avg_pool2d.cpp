// global_avg_pool2d:  y = mean of x over height and width      dx = dy / (height width)
//
// [batch, height, width, channels] -> [batch, channels].
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/axis_sum.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

Specs infer_global_avg_pool(std::span<const Spec> in, const Attrs&) {
  require_images("global_avg_pool2d", in[0]);
  return {{{in[0].shape[0], in[0].shape[3]}, in[0].dtype}};
}

}  // namespace

namespace cpu {

size_t global_avg_pool2d_workspace(const Call& call) { return AxisSum(call.in[0].shape, 0b0110).workspace(); }

void global_avg_pool2d(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  if (y.shape.elements() == 0) return;
  const auto pixels = static_cast<double>(x.shape.product(1, 3));
  dispatch_compute(x.dtype, [&]<class T>() {
    AxisSum(x.shape, 0b0110)
        .run<T>([&](int64_t at, int64_t, T*) { return x.as<T>() + at; },
                [&](int64_t j, double total) { y.as<T>()[j] = static_cast<T>(total / pixels); }, call.workspace);
  });
}

void global_avg_pool2d_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dy = call.grad_out[0];
  const int64_t pixels = dx.shape.product(1, 3), channels = dx.shape[3];
  if (dx.shape.elements() == 0) return;
  dispatch_compute(dx.dtype, [&]<class T>() {
    const T share = static_cast<T>(1 / static_cast<double>(pixels));
    parallel_for(dx.shape[0] * pixels, (1 << 16) / channels, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        for (int64_t c = 0; c < channels; ++c)
          dx.as<T>()[p * channels + c] = share * dy.as<T>()[p / pixels * channels + c];
    });
  });
}

}  // namespace cpu

namespace {

Samples global_avg_pool_samples(DType dtype) {
  return {{{normal_sample({3, 5, 7, 2}, dtype, 1)}, {}}, {{normal_sample({2, 130, 140, 3}, dtype, 2)}, {}}};
}

}  // namespace

constinit const Op global_avg_pool2d_op = {
    .name = "global_avg_pool2d",
    .formula = "y = mean of x over height and width",
    .infer = infer_global_avg_pool,
    .forward = {cpu::global_avg_pool2d, ON_CUDA(global_avg_pool2d), cpu::global_avg_pool2d_workspace},
    .backward = {cpu::global_avg_pool2d_grad, ON_CUDA(global_avg_pool2d_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = global_avg_pool_samples,
};

Tensor global_avg_pool2d(const Tensor& x) { return apply(global_avg_pool2d_op, {x})[0]; }

}  // namespace xent
