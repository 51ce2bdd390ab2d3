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
#include <xent/ops/softmax.h>

namespace xent {

namespace {

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

// Calls body(at) for the elements of a row, which are `at` from its first. Adjacent ones go into vectors.
template <class Body>
void each_element(const Rows& rows, const Body& body) {
  if (rows.inner == 1)
    for (int64_t c = 0; c < rows.classes; ++c) body(c);
  else
    for (int64_t c = 0; c < rows.classes; ++c) body(c * rows.inner);
}

// The sum of term(at) over them, as eight sums of every eighth term: so it goes into vectors too.
template <class Term>
double sum_of(const Rows& rows, const Term& term) {
  constexpr int64_t lanes = 8;
  double part[lanes] = {};
  int64_t c = 0;
  if (rows.inner == 1)
    for (; c + lanes <= rows.classes; c += lanes)
      for (int64_t i = 0; i < lanes; ++i) part[i] += term(c + i);
  for (; c < rows.classes; ++c) part[0] += term(c * rows.inner);
  return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
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
    const auto dot = static_cast<T>(
        sum_of(rows, [&](int64_t at) { return static_cast<double>(dy[at]) * static_cast<double>(y[at]); }));
    each_element(rows, [&](int64_t at) { dx[at] = y[at] * (dy[at] - dot); });
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
    const auto sum = static_cast<T>(sum_of(rows, [&](int64_t at) { return static_cast<double>(dy[at]); }));
    each_element(rows, [&](int64_t at) { dx[at] = dy[at] - std::exp(y[at]) * sum; });
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
