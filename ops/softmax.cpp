// softmax:      y_c = exp(x_c - m) / s       dx_c = y_c (dy_c - sum_k dy_k y_k)
// log_softmax:  y_c = (x_c - m) - log s      dx_c = dy_c - exp(y_c) sum_k dy_k
//
// along one axis, with m the largest element and s = sum_k exp(x_k - m). Both backwards read the output only.
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/rows.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

struct SoftmaxAttrs {
  int axis;  // resolved: [0, rank)
  bool operator==(const SoftmaxAttrs&) const = default;
};

template <const Op* op>
Specs infer_softmax(std::span<const Spec> in, const Attrs&) {
  require_computable(op->name, in[0]);
  return {in[0]};
}

}  // namespace

namespace cpu {

// Calls body(x, y, rows, start) with both pointers typed, for every row that has elements.
template <class Body>
void each_row(const Call& call, const Slice& from, Body&& body) {
  const Rows rows(from.shape, call.attrs.as<SoftmaxAttrs>().axis);
  if (from.shape.elements() == 0) return;
  dispatch_compute(from.dtype, [&]<class T>() {
    rows.each([&](int64_t row) { body.template operator()<T>(rows, rows.start(row)); });
  });
}

void softmax(const Call& call) {
  each_row(call, call.in[0], [&]<class T>(const Rows& rows, int64_t start) {
    const T* x = call.in[0].as<T>() + start;
    T* y = call.out[0].as<T>() + start;
    const auto [max, log_sum] = row_statistics(x, rows.classes, rows.inner);
    if (std::is_same_v<T, float> && rows.inner == 1)
      if (const LossKernel* kernel = loss_kernel(DType::f32); kernel && log_sum == log_sum) {
        const double factor = std::exp(-static_cast<double>(log_sum));
        return kernel->grad(x, rows.classes, static_cast<float>(max), static_cast<float>(factor), {}, false, y);
      }
    for (int64_t c = 0; c < rows.classes; ++c) y[c * rows.inner] = std::exp(x[c * rows.inner] - max - log_sum);
  });
}

void softmax_grad(const Call& call) {
  each_row(call, call.out[0], [&]<class T>(const Rows& rows, int64_t start) {
    const T* y = call.out[0].as<T>() + start;
    const T* dy = call.grad_out[0].as<T>() + start;
    T* dx = call.grad_in[0].as<T>() + start;
    double dot = 0;
    for (int64_t c = 0; c < rows.classes; ++c)
      dot += static_cast<double>(dy[c * rows.inner]) * static_cast<double>(y[c * rows.inner]);
    for (int64_t c = 0; c < rows.classes; ++c)
      dx[c * rows.inner] = y[c * rows.inner] * (dy[c * rows.inner] - static_cast<T>(dot));
  });
}

void log_softmax(const Call& call) {
  each_row(call, call.in[0], [&]<class T>(const Rows& rows, int64_t start) {
    const T* x = call.in[0].as<T>() + start;
    T* y = call.out[0].as<T>() + start;
    const auto [max, log_sum] = row_statistics(x, rows.classes, rows.inner);
    for (int64_t c = 0; c < rows.classes; ++c) y[c * rows.inner] = (x[c * rows.inner] - max) - log_sum;
  });
}

void log_softmax_grad(const Call& call) {
  each_row(call, call.out[0], [&]<class T>(const Rows& rows, int64_t start) {
    const T* y = call.out[0].as<T>() + start;
    const T* dy = call.grad_out[0].as<T>() + start;
    T* dx = call.grad_in[0].as<T>() + start;
    double sum = 0;
    for (int64_t c = 0; c < rows.classes; ++c) sum += static_cast<double>(dy[c * rows.inner]);
    for (int64_t c = 0; c < rows.classes; ++c)
      dx[c * rows.inner] = dy[c * rows.inner] - std::exp(y[c * rows.inner]) * static_cast<T>(sum);
  });
}

}  // namespace cpu

namespace {

Samples softmax_samples(DType dtype) {
  return {{{normal_sample({5, 7}, dtype, 1)}, SoftmaxAttrs{1}},
          {{normal_sample({3, 5, 2}, dtype, 2)}, SoftmaxAttrs{1}},
          {{normal_sample({4, 3}, dtype, 3)}, SoftmaxAttrs{0}},
          {{normal_sample({9}, dtype, 4)}, SoftmaxAttrs{0}},
          {{normal_sample({3, 1}, dtype, 5)}, SoftmaxAttrs{1}}};
}

}  // namespace

constinit const Op softmax_op = {
    .name = "softmax",
    .formula = "y_c = exp(x_c) / sum_k exp(x_k)",
    .infer = infer_softmax<&softmax_op>,
    .forward = {cpu::softmax, ON_CUDA(softmax)},
    .backward = {cpu::softmax_grad, ON_CUDA(softmax_grad)},
    .needs_in = nothing,
    .samples = softmax_samples,
};

constinit const Op log_softmax_op = {
    .name = "log_softmax",
    .formula = "y_c = x_c - log sum_k exp(x_k)",
    .infer = infer_softmax<&log_softmax_op>,
    .forward = {cpu::log_softmax, ON_CUDA(log_softmax)},
    .backward = {cpu::log_softmax_grad, ON_CUDA(log_softmax_grad)},
    .needs_in = nothing,
    .samples = softmax_samples,
};

Tensor softmax(const Tensor& x, int64_t axis) {
  return apply(softmax_op, {x}, SoftmaxAttrs{resolve_axis("softmax", x, axis)})[0];
}
Tensor log_softmax(const Tensor& x, int64_t axis) {
  return apply(log_softmax_op, {x}, SoftmaxAttrs{resolve_axis("log_softmax", x, axis)})[0];
}

}  // namespace xent
