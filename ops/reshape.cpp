// reshape:     y = x, in another shape            dx = dy
// slice_rows:  y_i = x_(begin + i)                dx_i = dy_(i - begin) for rows in [begin, end), else 0
//
// Both are views: y shares the bytes of x, and no kernel runs. A reshape's gradient is a view as well.
#include <algorithm>
#include <array>
#include <cstring>

#include <xent/core/dispatch.h>
#include <xent/core/fill.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/ops.h>
#include <xent/ops/reshape.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 16;  // elements per chunk

Specs infer_reshape(std::span<const Spec> in, const Attrs& attrs) {
  const Shape &from = in[0].shape, &to = attrs.as<Shape>();
  require<ShapeError>(from.elements() == to.elements(), "reshape: {} has {} elements, {} has {}", from, from.elements(),
                      to, to.elements());
  return {{to, in[0].dtype}};
}

Specs infer_slice_rows(std::span<const Spec> in, const Attrs& attrs) {
  const Shape& x = in[0].shape;
  const auto [begin, end] = attrs.as<RowsAttrs>();
  require<ShapeError>(x.rank() >= 1, "slice_rows: a scalar has no rows");
  require<ShapeError>(0 <= begin && begin <= end && end <= x[0],
                      "slice_rows: rows [{}, {}) are not in [0, {}) of shape {}", begin, end, x[0], x);
  std::array<int64_t, Shape::max_rank> extents{};
  std::ranges::copy(x, extents.begin());
  extents[0] = end - begin;
  return {{Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(x.rank()))), in[0].dtype}};
}

// ---- where the output's bytes begin in the input's ----

int64_t first_element(std::span<const Spec>, const Attrs&) { return 0; }

int64_t first_row(std::span<const Spec> in, const Attrs& attrs) {
  return attrs.as<RowsAttrs>().begin * in[0].shape.product(1, in[0].shape.rank());
}

}  // namespace

namespace cpu {

void slice_rows_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dy = call.grad_out[0];
  const int64_t first = call.attrs.as<RowsAttrs>().begin * dx.shape.product(1, dx.shape.rank());
  const int64_t last = first + dy.shape.elements();
  if (dx.beta != 0) {
    add_to({.data = dx.as<std::byte>() + first * static_cast<int64_t>(size_of(dx.dtype)),
            .shape = dy.shape,
            .dtype = dx.dtype},
           dy);
    return;
  }
  dispatch(dx.dtype, [&]<class T>() {
    parallel_for(dx.shape.elements(), grain, [=, to = dx.as<T>(), from = dy.as<T>()](int64_t begin, int64_t end) {
      const int64_t inside = std::clamp(first, begin, end), after = std::clamp(last, begin, end);
      std::fill(to + begin, to + inside, T(0));
      if (inside < after) std::copy(from + (inside - first), from + (after - first), to + inside);
      std::fill(to + after, to + end, T(0));
    });
  });
}

}  // namespace cpu

namespace {

Samples reshape_samples(DType dtype) {
  return {{{normal_sample({2, 3, 4}, dtype, 1)}, Shape{6, 4}},
          {{normal_sample({5}, dtype, 2)}, Shape{1, 5, 1}},
          {{normal_sample({1, 1}, dtype, 3)}, Shape{}}};
}

Samples slice_rows_samples(DType dtype) {
  return {{{normal_sample({7, 3}, dtype, 1)}, RowsAttrs{2, 5}},
          {{normal_sample({5}, dtype, 2)}, RowsAttrs{0, 5}},
          {{normal_sample({4, 2, 3}, dtype, 3)}, RowsAttrs{3, 4}},
          {{normal_sample({300, 500}, dtype, 4)}, RowsAttrs{1, 290}}};
}

}  // namespace

constinit const Op reshape_op = {
    .name = "reshape",
    .formula = "y = x",
    .infer = infer_reshape,
    .needs_in = nothing,
    .needs_out = nothing,
    .view = first_element,
    .samples = reshape_samples,
};

constinit const Op slice_rows_op = {
    .name = "slice_rows",
    .formula = "y_i = x_(begin + i)",
    .infer = infer_slice_rows,
    .backward = {cpu::slice_rows_grad, ON_CUDA(slice_rows_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .accumulates = true,
    .view = first_row,
    .samples = slice_rows_samples,
};

Tensor reshape(const Tensor& x, const Shape& shape) { return apply(reshape_op, {x}, shape)[0]; }

Tensor flatten(const Tensor& x, int64_t first_axis) {
  const int kept = resolve_axis("flatten", x, first_axis);
  std::array<int64_t, Shape::max_rank> extents{};
  std::copy_n(x.shape().begin(), kept, extents.begin());
  extents[static_cast<size_t>(kept)] = x.shape().product(kept, x.rank());
  return reshape(x, Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(kept) + 1)));
}

Tensor slice_rows(const Tensor& x, int64_t begin, int64_t end) {
  return apply(slice_rows_op, {x}, RowsAttrs{begin, end})[0];
}

Tensor Tensor::reshape(const Shape& shape) const { return xent::reshape(*this, shape); }
Tensor Tensor::slice(int64_t begin, int64_t end) const { return xent::slice_rows(*this, begin, end); }

}  // namespace xent
