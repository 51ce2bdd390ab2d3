// pick:  y_r = x[r, index_r]      dx[r, c] = dy_r if c == index_r, else 0
#include <array>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/labels.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

Specs infer_pick(std::span<const Spec> in, const Attrs&) {
  const Spec &x = in[0], &index = in[1];
  require<ShapeError>(x.shape.rank() >= 1, "pick: input {} must have an axis to pick along", x.shape);
  const Shape rows(std::span<const int64_t>(x.shape.begin(), static_cast<size_t>(x.shape.rank() - 1)));
  require<ShapeError>(index.shape == rows, "pick: index {} must be {}, one per row of {}", index.shape, rows, x.shape);
  require_computable("pick", x);
  require<DTypeError>(is_index(index.dtype), "pick: index must be u8, i32 or i64, not {}", index.dtype);
  return {{rows, x.dtype}};
}

}  // namespace

namespace cpu {

// Calls body<T, L>() with the types of x and of the index.
template <class Body>
void with_types(const Slice& x, const Slice& index, Body&& body) {
  dispatch_compute(
      x.dtype, [&]<class T>() { dispatch_index(index.dtype, [&]<class L>() { body.template operator()<T, L>(); }); });
}

void pick(const Call& call) {
  const Slice &x = call.in[0], &index = call.in[1];
  const int64_t classes = x.shape[-1];
  check_labels("pick", index, classes);
  with_types(x, index, [&]<class T, class L>() {
    T* y = call.out[0].as<T>();
    for (int64_t r = 0; r < index.shape.elements(); ++r)
      y[r] = x.as<T>()[r * classes + static_cast<int64_t>(index.as<L>()[r])];
  });
}

void pick_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &index = call.in[1];
  const int64_t classes = dx.shape[-1];
  with_types(dx, index, [&]<class T, class L>() {
    parallel_for(index.shape.elements(), std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(classes, 1)),
                 [&](int64_t begin, int64_t end) {
                   std::fill(dx.as<T>() + begin * classes, dx.as<T>() + end * classes, T(0));
                   for (int64_t r = begin; r < end; ++r)
                     dx.as<T>()[r * classes + static_cast<int64_t>(index.as<L>()[r])] = call.grad_out[0].as<T>()[r];
                 });
  });
}

}  // namespace cpu

namespace {

Samples pick_samples(DType dtype) {
  return {{{normal_sample({5, 7}, dtype, 1), label_sample({5}, 7, DType::i64, 2)}, {}},
          {{normal_sample({2, 3, 4}, dtype, 3), label_sample({2, 3}, 4, DType::i32, 4)}, {}},
          {{normal_sample({6}, dtype, 5), label_sample({}, 6, DType::u8, 6)}, {}}};
}

}  // namespace

constinit const Op pick_op = {
    .name = "pick",
    .formula = "y_r = x[r, index_r]",
    .inputs = 2,
    .infer = infer_pick,
    .forward = {cpu::pick, ON_CUDA(pick)},
    .backward = {cpu::pick_grad, ON_CUDA(pick_grad)},
    .needs_in = 0b10,
    .needs_out = nothing,
    .differentiable = 0b01,
    .checks_labels = true,
    .samples = pick_samples,
};

Tensor pick(const Tensor& x, const Tensor& index) { return apply(pick_op, {x, index})[0]; }

}  // namespace xent
