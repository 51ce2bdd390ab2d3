// batch_norm2d:  y = (x - m) r w + b,  r = 1 / sqrt(v + epsilon)     m, v: mean and variance of a channel in the batch
//                dx = r w (dy - mean(dy) - h mean(dy h)),  h = (x - m) r;    dw = sum of dy h,  db = sum of dy
//                running mean = (1 - momentum) running mean + momentum m, the variance likewise with v n / (n - 1)
// batch_norm2d_frozen:  the same y with given m and v;    dx = r w dy
//
// Forward reads x from memory twice: for the statistics, in chunks of rows that are read a second time in the cache for
// the squares about the chunk's own mean, and for y. Backward reads x and dy twice: for both sums, and for dx. Sums and
// what is kept for backward are in f64; a common offset in x costs no digits.
#include <cmath>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/batch_norm2d.h>
#include <xent/ops/centred.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/channels.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

// Input, weight, bias, and two statistics.
void check_batch_norm(const char* op, std::span<const Spec> in, const BatchNormAttrs& attrs) {
  constexpr const char* names[] = {"input", "weight", "bias", "mean", "variance"};
  const Spec& x = in[0];
  require_computable(op, x);
  require<ShapeError>(x.shape.rank() == 4, "{}: input {}; expected [batch, height, width, channels]", op, x.shape);
  for (size_t i = 1; i < in.size(); ++i) {
    require<ShapeError>(!in[i] || in[i].shape == Shape{x.shape[3]}, "{}: {} {} for an input {}; it must be [{}]", op,
                        names[i], in[i].shape, x.shape, x.shape[3]);
    require<DTypeError>(!in[i] || in[i].dtype == x.dtype, "{}: {} is {}, the input {}; cast one of them", op, names[i],
                        in[i].dtype, x.dtype);
  }
  require<ArgumentError>(std::isfinite(attrs.epsilon) && attrs.epsilon >= 0,
                         "{}: epsilon {} must be finite and not negative", op, attrs.epsilon);
}

Specs infer_batch_norm(std::span<const Spec> in, const Attrs& attributes) {
  const auto& attrs = attributes.as<BatchNormAttrs>();
  check_batch_norm("batch_norm2d", in, attrs);
  require<ArgumentError>(attrs.momentum >= 0 && attrs.momentum <= 1, "batch_norm2d: momentum {} must be in [0, 1]",
                         attrs.momentum);
  require<ShapeError>(cpu::rows_of(in[0].shape) >= 2,
                      "batch_norm2d: input {} has {} elements per channel, and a variance takes at least two; use a "
                      "larger batch, or batch_norm2d_frozen",
                      in[0].shape, cpu::rows_of(in[0].shape));
  const Spec statistics = {{in[0].shape[3]}, DType::f64};
  return {in[0], statistics, statistics};
}

Specs infer_frozen(std::span<const Spec> in, const Attrs& attributes) {
  check_batch_norm("batch_norm2d_frozen", in, attributes.as<BatchNormAttrs>());
  return {in[0]};
}

}  // namespace

namespace cpu {

// The four numbers per channel that normalise() takes.
template <class T>
void set_affine(const Channels<T>& channels, int64_t c, double mean, double inverse, const Call& call) {
  const Centred<T> centred(mean);
  channels.number(0)[c] = centred.high;
  channels.number(1)[c] = centred.low;
  channels.number(2)[c] = static_cast<T>(inverse) * (call.in[1] ? call.in[1].as<T>()[c] : T(1));
  channels.number(3)[c] = call.in[2] ? call.in[2].as<T>()[c] : T(0);
}

void batch_norm2d(const Call& call) {
  const auto& attrs = call.attrs.as<BatchNormAttrs>();
  auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Channels<T> channels(call);
    const RowSums& sums = channels.sums;
    const T* x = call.in[0].as<T>();
    const auto value = [x, count = channels.count](int64_t row, int64_t c) {
      return static_cast<double>(x[row * count + c]);
    };
    sums.run(
        [&](const RowChunk& part, double* const* to) {
          sum_rows(part, value, to[0]);
          double mean[RowChunk::most_columns];
          for (int64_t i = 0; i < part.count; ++i) mean[i] = to[0][i] / static_cast<double>(part.end - part.begin);
          const auto squared = [&, first = part.column](int64_t row, int64_t c) {
            const double d = value(row, c) - mean[c - first];
            return d * d;
          };
          sum_rows(part, squared, to[1]);
        },
        call.workspace);
    T *running_mean = call.in[3].as<T>(), *running_var = call.in[4].as<T>();
    sums.each_column([&](int64_t c) {
      const auto n = static_cast<double>(channels.rows);
      const double mean = sums.total(call.workspace, 0, c) / n;
      double squares = sums.total(call.workspace, 1, c);  // about the chunks' own means; now about the whole one's
      for (int64_t k = 0; k < sums.chunks(); ++k) {
        const auto rows = static_cast<double>(sums.rows_of(k));
        const double d = sums.partial(call.workspace, k, 0, c) / rows - mean;
        squares += rows * d * d;
      }
      means[c] = mean;
      inverses[c] = 1 / std::sqrt(squares / n + attrs.epsilon);
      const auto blend = [&](T& running, double now) {
        running = static_cast<T>((1 - attrs.momentum) * static_cast<double>(running) + attrs.momentum * now);
      };
      blend(running_mean[c], mean);
      blend(running_var[c], squares / (n - 1));
      set_affine(channels, c, mean, inverses[c], call);
    });
    normalise(channels, x, call.out[0].as<T>());
  });
}

void batch_norm2d_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Channels<T> channels(call);
    const T *x = call.in[0].as<T>(), *dy = call.grad_out[0].as<T>(), *weight = call.in[1].as<T>();
    sum_products(channels, x, dy, means, call.workspace);
    T *high = channels.number(0), *low = channels.number(1), *scale = channels.number(2), *mean = channels.number(3),
      *slope = channels.number(4);
    channels.sums.each_column([&](int64_t c) {
      const auto n = static_cast<double>(channels.rows);
      const double products = channels.sums.total(call.workspace, 0, c),
                   sum = channels.sums.total(call.workspace, 1, c);
      if (dw) dw.as<T>()[c] = static_cast<T>(products * inverses[c]);
      if (db) db.as<T>()[c] = static_cast<T>(sum);
      const Centred<T> centred(means[c]);
      high[c] = centred.high;
      low[c] = centred.low;
      scale[c] = static_cast<T>(inverses[c]) * (weight ? weight[c] : T(1));
      mean[c] = static_cast<T>(sum / n);
      slope[c] = static_cast<T>(products / n * inverses[c] * inverses[c]);
    });
    if (!dx) return;
    channels.each_row([=, y = dx.as<T>(), count = channels.count](int64_t at) {
      const T *from = x + at, *upstream = dy + at;
      T* __restrict to = y + at;
      for (int64_t c = 0; c < count; ++c)
        to[c] = scale[c] * ((upstream[c] - mean[c]) - ((from[c] - high[c]) - low[c]) * slope[c]);
    });
  });
}

template <class T>
double frozen_inverse(const Call& call, int64_t c) {
  return 1 / std::sqrt(static_cast<double>(call.in[4].as<T>()[c]) + call.attrs.as<BatchNormAttrs>().epsilon);
}

void batch_norm2d_frozen(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Channels<T> channels(call);
    for (int64_t c = 0; c < channels.count; ++c)
      set_affine(channels, c, static_cast<double>(call.in[3].as<T>()[c]), frozen_inverse<T>(call, c), call);
    normalise(channels, call.in[0].as<T>(), call.out[0].as<T>());
  });
}

void batch_norm2d_frozen_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Channels<T> channels(call);
    const T *dy = call.grad_out[0].as<T>(), *weight = call.in[1].as<T>();
    if (dx) {
      T* scale = channels.number(0);
      for (int64_t c = 0; c < channels.count; ++c)
        scale[c] = static_cast<T>(frozen_inverse<T>(call, c)) * (weight ? weight[c] : T(1));
      channels.each_row([=, y = dx.as<T>(), count = channels.count](int64_t at) {
        const T* upstream = dy + at;
        T* __restrict to = y + at;
        for (int64_t c = 0; c < count; ++c) to[c] = upstream[c] * scale[c];
      });
    }
    if (!dw && !db) return;
    sum_products(channels, call.in[0].as<T>(), dy, call.in[3].as<T>(), call.workspace);
    channels.sums.each_column([&](int64_t c) {
      const double products = channels.sums.total(call.workspace, 0, c);
      if (dw) dw.as<T>()[c] = static_cast<T>(products * frozen_inverse<T>(call, c));
      if (db) db.as<T>()[c] = static_cast<T>(channels.sums.total(call.workspace, 1, c));
    });
  });
}

}  // namespace cpu

namespace {

// One channel, few and many, rows of several chunks, with and without weight and bias.
Samples batch_norm_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, bool weight, bool bias) {
    const Shape channels{shape[3]};
    return Sample{{normal_sample(shape, dtype, 21), weight ? normal_sample(channels, dtype, 22) : Tensor(),
                   bias ? normal_sample(channels, dtype, 23) : Tensor(), normal_sample(channels, dtype, 24),
                   positive_sample(channels, dtype, 25)},
                  BatchNormAttrs{0.1, 1e-5}};
  };
  return {sample({2, 3, 5, 7}, true, true), sample({2, 2, 1, 1}, true, false), sample({3, 5, 2, 4}, false, true),
          sample({5, 61, 59, 3}, true, true), sample({3, 7, 9, 131}, false, false)};
}

}  // namespace

constinit const Op batch_norm2d_op = {
    .name = "batch_norm2d",
    .formula = "y = (x - mean) / sqrt(variance + epsilon) w + b, per channel",
    .inputs = 5,
    .infer = infer_batch_norm,
    .forward = {cpu::batch_norm2d, ON_CUDA(batch_norm2d), cpu::channels_workspace<4>, ON_CUDA(batch_norm2d_workspace)},
    .backward = {cpu::batch_norm2d_grad, ON_CUDA(batch_norm2d_grad), cpu::channels_workspace<5>,
                 ON_CUDA(batch_norm2d_grad_workspace)},
    .optional = 0b00110,
    .needs_in = 0b00011,
    .needs_out = 0b110,
    .differentiable = 0b00111,
    .differentiable_out = 0b001,
    .updates = 0b11000,
    .samples = batch_norm_samples,
};

constinit const Op batch_norm2d_frozen_op = {
    .name = "batch_norm2d_frozen",
    .formula = "y = (x - mean) / sqrt(variance + epsilon) w + b, with given statistics",
    .inputs = 5,
    .infer = infer_frozen,
    .forward = {cpu::batch_norm2d_frozen, ON_CUDA(batch_norm2d_frozen), cpu::channels_workspace<4>},
    .backward = {cpu::batch_norm2d_frozen_grad, ON_CUDA(batch_norm2d_frozen_grad), cpu::channels_workspace<1>,
                 ON_CUDA(batch_norm2d_frozen_grad_workspace)},
    .optional = 0b00110,
    .needs_in = 0b11011,
    .needs_out = nothing,
    .differentiable = 0b00111,
    .samples = batch_norm_samples,
};

Tensor batch_norm2d(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor running_mean, Tensor running_var,
                    const BatchNormOptions& options) {
  return apply(batch_norm2d_op, {x, weight, bias, running_mean, running_var},
               BatchNormAttrs{options.momentum, options.epsilon})[0];
}

Tensor batch_norm2d_frozen(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& mean,
                           const Tensor& variance, double epsilon) {
  return apply(batch_norm2d_frozen_op, {x, weight, bias, mean, variance}, BatchNormAttrs{0, epsilon})[0];
}

}  // namespace xent
