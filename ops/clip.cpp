// accumulate_squares:  total += sum_i x_i^2
// clip_to_norm:        x_i *= min(1, max_norm / (sqrt(squares) + 1e-6))
//
// Ops without a backward that update in place. Squares are taken and summed in f64, in an order that depends on the
// shape only. Whether to clip is decided from a tensor, so a replayed Step decides anew; nobody waits for a norm. One
// that is inf makes what is finite 0 and the rest NaN, and one that is NaN makes everything NaN, as in PyTorch.
#include <cmath>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/clip_attrs.h>
#include <xent/ops/cpu/axis_sum.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 15;  // elements per chunk

void require_total(const char* op, const Spec& total) {
  require<ShapeError>(total.shape == Shape{} && total.dtype == DType::f64,
                      "{}: the sum of squares is {} {}; it must be a scalar of f64", op, total.dtype, total.shape);
}

Specs infer_squares(std::span<const Spec> in, const Attrs&) {
  require_total("accumulate_squares", in[0]);
  require_computable("accumulate_squares", in[1]);
  return {};
}

Specs infer_clip(std::span<const Spec> in, const Attrs& attrs) {
  const double max_norm = attrs.as<ClipAttrs>().max_norm;
  require<ArgumentError>(std::isfinite(max_norm) && max_norm > 0,
                         "clip_to_norm: a norm of at most {}; it must be positive and finite", max_norm);
  require_computable("clip_to_norm", in[0]);
  require_total("clip_to_norm", in[1]);
  return {};
}

size_t squares_workspace(const Call& call) { return cpu::AxisSum(call.in[1].shape, everything).workspace(); }

}  // namespace

namespace cpu {

void accumulate_squares(const Call& call) {
  auto* total = call.in[0].as<double>();
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    const auto squares = [x = call.in[1].as<T>()](int64_t at, int64_t count, double* scratch) -> const double* {
      for (int64_t i = 0; i < count; ++i) scratch[i] = static_cast<double>(x[at + i]) * static_cast<double>(x[at + i]);
      return scratch;
    };
    AxisSum(call.in[1].shape, everything)
        .run<double>(
            squares, [=](int64_t, double sum) { *total += sum; }, call.workspace);
  });
}

void clip_to_norm(const Call& call) {
  const double norm = std::sqrt(*call.in[1].as<double>());
  const double share = call.attrs.as<ClipAttrs>().max_norm / (norm + 1e-6);
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T factor = static_cast<T>(share >= 1 ? 1 : share);  // NaN stays
    T* x = call.in[0].as<T>();
    parallel_for(call.in[0].shape.elements(), grain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) x[i] *= factor;
    });
  });
}

}  // namespace cpu

namespace {

Tensor squares_sample(double value) { return Tensor::scalar(value, DType::f64); }

Samples squares_samples(DType dtype) {
  return {{{squares_sample(3), normal_sample({5, 7}, dtype, 1)}, {}},
          {{squares_sample(0), normal_sample({}, dtype, 2)}, {}},
          {{squares_sample(0.5), normal_sample({3, 17001}, dtype, 3)}, {}}};  // several chunks
}

Samples clip_samples(DType dtype) {
  return {{{normal_sample({5, 7}, dtype, 1), squares_sample(30)}, ClipAttrs{0.5}},
          {{normal_sample({}, dtype, 2), squares_sample(0)}, ClipAttrs{0.5}},
          {{normal_sample({grain + 7}, dtype, 3), squares_sample(3.25)}, ClipAttrs{1}}};
}

}  // namespace

constinit const Op accumulate_squares_op = {
    .name = "accumulate_squares",
    .formula = "total += sum x^2",
    .inputs = 2,
    .infer = infer_squares,
    .forward = {cpu::accumulate_squares, ON_CUDA(accumulate_squares), squares_workspace,
                ON_CUDA(accumulate_squares_workspace)},
    .updates = 0b01,
    .samples = squares_samples,
};

constinit const Op clip_to_norm_op = {
    .name = "clip_to_norm",
    .formula = "x *= min(1, max_norm / (sqrt(squares) + 1e-6))",
    .inputs = 2,
    .infer = infer_clip,
    .forward = {cpu::clip_to_norm, ON_CUDA(clip_to_norm)},
    .updates = 0b01,
    .samples = clip_samples,
};

void accumulate_squares(Tensor total, const Tensor& x) { apply(accumulate_squares_op, {total, x}); }

void clip_to_norm(Tensor x, const Tensor& squares, double max_norm) {
  apply(clip_to_norm_op, {x, squares}, ClipAttrs{max_norm});
}

}  // namespace xent
