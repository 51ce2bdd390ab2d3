// layer_norm:  y = (x - m) r w + b,  r = 1 / sqrt(v + epsilon)      m, v: mean and variance of the last axes
//              dx = r (g - mean(g) - h mean(g h)),  g = dy w,  h = (x - m) r
//              dw = sum of dy h over the rows,  db = sum of dy
//
// x is seen as rows, one after the other in the cache: its three passes cost one. Statistics are in f64, in two passes,
// and kept in f64, so that an offset common to a row costs no digits.
#include <algorithm>
#include <cmath>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/centred.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/row_sums.h>
#include <xent/ops/layer_norm.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 14;  // elements per chunk

Shape part(const Shape& x, int begin, int end) { return Shape(std::span(x.begin() + begin, x.begin() + end)); }

Specs infer_layer_norm(std::span<const Spec> in, const Attrs& attributes) {
  const auto& attrs = attributes.as<LayerNormAttrs>();
  const Spec &x = in[0], &weight = in[1], &bias = in[2];
  require_computable("layer_norm", x);
  require<ArgumentError>(std::isfinite(attrs.epsilon) && attrs.epsilon >= 0,
                         "layer_norm: epsilon {} must be finite and not negative", attrs.epsilon);
  require<ShapeError>(attrs.axes >= 1 && attrs.axes <= x.shape.rank(),
                      "layer_norm: over the last {} axes of {}; there must be at least one, and at most {}", attrs.axes,
                      x.shape, x.shape.rank());
  const int first = x.shape.rank() - static_cast<int>(attrs.axes);
  const Shape row = part(x.shape, first, x.shape.rank());
  require<ShapeError>(row.elements() > 0, "layer_norm: the last {} axes of {} have no element to take a mean of",
                      attrs.axes, x.shape);
  for (const Spec* affine : {&weight, &bias}) {
    if (!*affine) continue;
    require<ShapeError>(affine->shape == row, "layer_norm: {} {} for an input {}; it must be {}",
                        affine == &weight ? "weight" : "bias", affine->shape, x.shape, row);
    require<DTypeError>(affine->dtype == x.dtype, "layer_norm: input {}, weight or bias {}; cast one of them", x.dtype,
                        affine->dtype);
  }
  const Spec statistics = {part(x.shape, 0, first), DType::f64};
  return {x, statistics, statistics};
}

size_t layer_norm_grad_workspace(const Call& call) {
  const LayerNormMatrix x(call.out[0].shape, call.attrs.as<LayerNormAttrs>().axes);
  return cpu::RowSums(x.rows, x.columns, 2).workspace();
}

}  // namespace

namespace cpu {

template <class Body>
void each_row(const LayerNormMatrix& x, const Body& body) {
  parallel_for(x.rows, std::max<int64_t>(1, grain / x.columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

void layer_norm(const Call& call) {
  const auto& attrs = call.attrs.as<LayerNormAttrs>();
  const LayerNormMatrix matrix(call.in[0].shape, attrs.axes);
  const auto columns = static_cast<double>(matrix.columns);
  auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T *weight = call.in[1].as<T>(), *bias = call.in[2].as<T>();
    each_row(matrix, [&](int64_t row) {
      const T* x = call.in[0].as<T>() + row * matrix.columns;
      T* y = call.out[0].as<T>() + row * matrix.columns;
      const auto value = [=](int64_t i) { return static_cast<double>(x[i]); };
      const double mean = sum_run(matrix.columns, value) / columns;
      const auto squared = [=](int64_t i) { return (value(i) - mean) * (value(i) - mean); };
      const double variance = sum_run(matrix.columns, squared) / columns;
      means[row] = mean;
      inverses[row] = 1 / std::sqrt(variance + attrs.epsilon);
      const Centred<T> centred(mean);
      const T inverse = static_cast<T>(inverses[row]);
      for (int64_t i = 0; i < matrix.columns; ++i) y[i] = centred(x[i]) * inverse;
      for (int64_t i = 0; weight && i < matrix.columns; ++i) y[i] *= weight[i];
      for (int64_t i = 0; bias && i < matrix.columns; ++i) y[i] += bias[i];
    });
  });
}

// dx of one row.
template <class T>
void normalised_grad(int64_t columns, const T* x, const T* weight, const T* dy, double mean, double inverse, T* dx) {
  const auto g = [=](int64_t i) { return weight ? dy[i] * weight[i] : dy[i]; };
  const auto wide = [=](int64_t i) { return static_cast<double>(g(i)); };
  const auto product = [=](int64_t i) { return wide(i) * (static_cast<double>(x[i]) - mean); };
  const auto count = static_cast<double>(columns);
  const Centred<T> centred(mean);
  const T mean_g = static_cast<T>(sum_run(columns, wide) / count), scale = static_cast<T>(inverse);
  const T slope = static_cast<T>(sum_run(columns, product) / count * inverse * inverse);
  for (int64_t i = 0; i < columns; ++i) dx[i] = scale * ((g(i) - mean_g) - centred(x[i]) * slope);
}

void layer_norm_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const LayerNormMatrix matrix(call.in[0].shape, call.attrs.as<LayerNormAttrs>().axes);
  const auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T *x = call.in[0].as<T>(), *dy = call.grad_out[0].as<T>();
    if (dx)
      each_row(matrix, [&](int64_t row) {
        const int64_t at = row * matrix.columns;
        normalised_grad(matrix.columns, x + at, call.in[1].as<T>(), dy + at, means[row], inverses[row],
                        dx.as<T>() + at);
      });
    if (!dw && !db) return;
    const RowSums sums(matrix.rows, matrix.columns, 2);
    const auto wide = [=](int64_t row, int64_t i) { return static_cast<double>(dy[row * matrix.columns + i]); };
    const auto product = [=](int64_t row, int64_t i) {
      return wide(row, i) * ((static_cast<double>(x[row * matrix.columns + i]) - means[row]) * inverses[row]);
    };
    sums.run(
        [&](const RowChunk& chunk, double* const* to) {
          sum_rows(chunk, product, to[0]);
          sum_rows(chunk, wide, to[1]);
        },
        call.workspace);
    sums.each_column([&](int64_t i) {
      if (dw) dw.as<T>()[i] = static_cast<T>(sums.total(call.workspace, 0, i));
      if (db) db.as<T>()[i] = static_cast<T>(sums.total(call.workspace, 1, i));
    });
  });
}

}  // namespace cpu

namespace {

// One axis and several, with and without weight and bias, rows and columns of several chunks.
Samples layer_norm_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, int64_t axes, bool weight, bool bias) {
    const Shape row = part(shape, shape.rank() - static_cast<int>(axes), shape.rank());
    return Sample{{normal_sample(shape, dtype, 21), weight ? normal_sample(row, dtype, 22) : Tensor(),
                   bias ? normal_sample(row, dtype, 23) : Tensor()},
                  LayerNormAttrs{axes, 1e-5}};
  };
  return {sample({5, 7}, 1, true, true),       sample({9}, 1, true, false),       sample({2, 3, 5, 4}, 3, false, true),
          sample({3, 2, 11}, 1, false, false), sample({401, 131}, 1, true, true), sample({3, 131, 130}, 2, true, true)};
}

}  // namespace

constinit const Op layer_norm_op = {
    .name = "layer_norm",
    .formula = "y = (x - mean) / sqrt(variance + epsilon) w + b, over the last axes",
    .inputs = 3,
    .infer = infer_layer_norm,
    .forward = {cpu::layer_norm, ON_CUDA(layer_norm)},
    .backward = {cpu::layer_norm_grad, ON_CUDA(layer_norm_grad), layer_norm_grad_workspace,
                 ON_CUDA(layer_norm_grad_workspace)},
    .optional = 0b110,
    .needs_in = 0b011,
    .needs_out = 0b110,
    .differentiable_out = 0b001,
    .samples = layer_norm_samples,
};

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerNormOptions& options) {
  return apply(layer_norm_op, {x, weight, bias}, LayerNormAttrs{options.axes, options.epsilon})[0];
}

}  // namespace xent
