// sum:     y = sum of x over the axes           dx = dy, stretched along the axes
// mean:    y = sum of x / count                 dx = dy / count, stretched along the axes
// argmax:  y = the first index of the largest element along an axis
//
// Sums are in f64, in an order that depends on the shape only, and rounded once.
#include <algorithm>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/axis_sum.h>
#include <xent/ops/cpu/broadcast.h>
#include <xent/ops/ops.h>
#include <xent/ops/reduce.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 15;  // elements per chunk

Mask axes_mask(const char* op, const Tensor& x, std::initializer_list<int64_t> axes) {
  Mask mask = 0;
  for (const int64_t axis : axes) {
    const Mask bit = Mask{1} << resolve_axis(op, x, axis);
    require<ShapeError>(!(mask & bit), "{}: axis {} of shape {} is given twice", op, axis, x.shape());
    mask |= bit;
  }
  return axes.size() == 0 ? everything : mask;
}

Specs infer_reduce(const char* op, const Spec& x, const ReduceAttrs& attrs) {
  require_computable(op, x);
  return {{without_axes(x.shape, attrs.axes, attrs.keep_axes), x.dtype}};
}

Specs infer_sum(std::span<const Spec> in, const Attrs& attrs) {
  return infer_reduce("sum", in[0], attrs.as<ReduceAttrs>());
}

Specs infer_mean(std::span<const Spec> in, const Attrs& attrs) {
  return infer_reduce("mean", in[0], attrs.as<ReduceAttrs>());
}

Specs infer_argmax(std::span<const Spec> in, const Attrs& attrs) {
  const int axis = attrs.as<ArgmaxAttrs>().axis;
  require_computable("argmax", in[0]);
  require<ShapeError>(in[0].shape[axis] > 0, "argmax: axis {} of shape {} has no element", axis, in[0].shape);
  return {{without_axes(in[0].shape, Mask{1} << axis, false), DType::i64}};
}

size_t reduce_workspace(const Call& call) {
  return cpu::AxisSum(call.in[0].shape, call.attrs.as<ReduceAttrs>().axes).workspace();
}

}  // namespace

namespace cpu {

// y = the sums divided by `divisor`.
void reduce(const Call& call, double divisor) {
  const Slice& x = call.in[0];
  dispatch_compute(x.dtype, [&]<class T>() {
    AxisSum(x.shape, call.attrs.as<ReduceAttrs>().axes)
        .run<T>([px = x.as<T>()](int64_t at, int64_t, T*) -> const T* { return px + at; },
                [=, y = call.out[0].as<T>()](int64_t j, double total) { y[j] = static_cast<T>(total / divisor); },
                call.workspace);
  });
}

// dx = dy / `divisor`, stretched.
void reduce_grad(const Call& call, double divisor) {
  const Slice& dx = call.grad_in[0];
  const Shape dy = without_axes(dx.shape, call.attrs.as<ReduceAttrs>().axes, true);
  const BroadcastLoop loop(dx.shape, dy, dy);
  dispatch_compute(dx.dtype, [&]<class T>() {
    const T* from = call.grad_out[0].as<T>();
    T* to = dx.as<T>();
    parallel_for(dx.shape.elements(), grain, [=](int64_t begin, int64_t end) {
      loop.for_each(begin, end, [=](int64_t i, int64_t j, int64_t) { to[i] = from[j] / static_cast<T>(divisor); });
    });
  });
}

void sum(const Call& call) { reduce(call, 1); }
void sum_grad(const Call& call) { reduce_grad(call, 1); }
void mean(const Call& call) { reduce(call, elements_per_output(call.in[0].shape, call.out[0].shape)); }
void mean_grad(const Call& call) {
  reduce_grad(call, elements_per_output(call.grad_in[0].shape, call.grad_out[0].shape));
}

void argmax(const Call& call) {
  const Shape& shape = call.in[0].shape;
  const int axis = call.attrs.as<ArgmaxAttrs>().axis;
  const int64_t extent = shape[axis], inner = shape.product(axis + 1, shape.rank());
  auto* y = call.out[0].as<int64_t>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T* x = call.in[0].as<T>();
    parallel_for(call.out[0].shape.elements(), std::max<int64_t>(1, grain / extent), [=](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        const T* row = x + j / inner * extent * inner + j % inner;
        int64_t best = 0;
        for (int64_t k = 1; k < extent && row[best * inner] == row[best * inner]; ++k)  // nothing is above a NaN
          if (!(row[k * inner] <= row[best * inner])) best = k;
        y[j] = best;
      }
    });
  });
}

}  // namespace cpu

namespace {

// Axes that fold to one, two and three parts, some that do not, and two large ones that are summed in chunks.
Samples reduce_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, Mask axes, bool keep = false) {
    return Sample{{normal_sample(shape, dtype, 1)}, ReduceAttrs{axes, keep}};
  };
  return {sample({}, everything),       sample({7}, 0b1),           sample({3, 5}, everything, true),
          sample({3, 5}, 0b01),         sample({3, 5}, 0b10, true), sample({2, 3, 4, 5}, 0b0110),
          sample({2, 3, 4, 5}, 0b0101), sample({3, 2, 300}, 0b010), sample({2, 3, 1, 5, 2}, 0b10101, true),
          sample({140, 130}, 0b01),     sample({2, 17001}, 0b10)};
}

Samples argmax_samples(DType dtype) {
  return {{{normal_sample({64, 10}, dtype, 1)}, ArgmaxAttrs{1}},
          {{normal_sample({7}, dtype, 2)}, ArgmaxAttrs{0}},
          {{normal_sample({3, 5, 2}, dtype, 3)}, ArgmaxAttrs{1}},
          {{normal_sample({500, 100}, dtype, 4)}, ArgmaxAttrs{0}}};
}

Tensor reduce(const Op& op, const Tensor& x, std::initializer_list<int64_t> axes, bool keep_axes) {
  return apply(op, {x}, ReduceAttrs{axes_mask(op.name, x, axes), keep_axes})[0];
}

}  // namespace

constinit const Op sum_op = {
    .name = "sum",
    .formula = "y = sum of x over the axes",
    .infer = infer_sum,
    .forward = {cpu::sum, ON_CUDA(sum), reduce_workspace, ON_CUDA(reduce_workspace)},
    .backward = {cpu::sum_grad, ON_CUDA(sum_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = reduce_samples,
};

constinit const Op mean_op = {
    .name = "mean",
    .formula = "y = sum of x over the axes / count",
    .infer = infer_mean,
    .forward = {cpu::mean, ON_CUDA(mean), reduce_workspace, ON_CUDA(reduce_workspace)},
    .backward = {cpu::mean_grad, ON_CUDA(mean_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = reduce_samples,
};

constinit const Op argmax_op = {
    .name = "argmax",
    .formula = "y = first k with the largest x_k",
    .infer = infer_argmax,
    .forward = {cpu::argmax, ON_CUDA(argmax)},
    .samples = argmax_samples,
};

Tensor sum(const Tensor& x, std::initializer_list<int64_t> axes, bool keep_axes) {
  return reduce(sum_op, x, axes, keep_axes);
}

Tensor mean(const Tensor& x, std::initializer_list<int64_t> axes, bool keep_axes) {
  return reduce(mean_op, x, axes, keep_axes);
}

Tensor argmax(const Tensor& x, int64_t axis) {
  return apply(argmax_op, {x}, ArgmaxAttrs{resolve_axis("argmax", x, axis)})[0];
}

}  // namespace xent
