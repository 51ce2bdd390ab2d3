// add, sub, mul, div:  y = a o b, elements aligned at the last axis, extents of 1 stretched
//
//   add  da = dy      db = dy              mul  da = dy b    db = dy a
//   sub  da = dy      db = -dy             div  da = dy / b  db = -dy (a / b) / b
//
// An operand that was stretched was used once per element of y along the stretched axes, so its gradient is the sum of
// these terms over them: taken in f64, one sum per element of the operand, in an order that depends on the shapes only.
#include <algorithm>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/binary.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/axis_sum.h>
#include <xent/ops/cpu/broadcast.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 15;  // elements per chunk

template <class F>
Specs infer(std::span<const Spec> in, const Attrs&) {
  const Spec &a = in[0], &b = in[1];
  require_computable(F::name, a);
  require_computable(F::name, b);
  require<DTypeError>(a.dtype == b.dtype, "{}: left is {}, right is {}; cast one of them", F::name, a.dtype, b.dtype);
  return {{broadcast(F::name, a.shape, b.shape), a.dtype}};
}

size_t binary_grad_workspace(const Call& call) {
  const Shape& y = call.grad_out[0].shape;
  size_t bytes = 0;  // one after the other, the two gradients use the same bytes
  for (const Slice& grad : call.grad_in) {
    if (!grad || !is_stretched(grad.shape, y)) continue;
    bytes = std::max(bytes, cpu::AxisSum(y, stretched_axes(grad.shape, y)).workspace());
  }
  return bytes;
}

}  // namespace

namespace cpu {

template <class F>
void binary(const Call& call) {
  const Slice &a = call.in[0], &b = call.in[1], &y = call.out[0];
  const BroadcastLoop loop(y.shape, a.shape, b.shape);
  dispatch_compute(y.dtype, [&]<class T>() {
    const T *pa = a.as<T>(), *pb = b.as<T>();
    T* py = y.as<T>();
    parallel_for(y.shape.elements(), grain, [=](int64_t begin, int64_t end) {
      loop.for_each(begin, end, [=](int64_t i, int64_t ia, int64_t ib) { py[i] = F::f(pa[ia], pb[ib]); });
    });
  });
}

// Writes the gradient of one operand: term(i, ia, ib) for every element i of y, summed where the operand was stretched.
template <class T, class Term>
void operand_grad(const BroadcastLoop& loop, const Shape& y, const Slice& grad, void* workspace, Term term) {
  T* d = grad.as<T>();
  if (!is_stretched(grad.shape, y)) {
    parallel_for(y.elements(), grain, [=](int64_t begin, int64_t end) {
      loop.for_each(begin, end, [=](int64_t i, int64_t ia, int64_t ib) { d[i] = term(i, ia, ib); });
    });
    return;
  }
  const auto load = [&](int64_t at, int64_t count, T* scratch) -> const T* {
    loop.for_each(at, at + count, [=](int64_t i, int64_t ia, int64_t ib) { scratch[i - at] = term(i, ia, ib); });
    return scratch;
  };
  const auto store = [=](int64_t j, double total) { d[j] = static_cast<T>(total); };
  AxisSum(y, stretched_axes(grad.shape, y)).run<T>(load, store, workspace);
}

template <class F>
void binary_grad(const Call& call) {
  const Slice& dy = call.grad_out[0];
  // Where the terms do not read a and b, their bytes were dropped: dy stands in for both.
  const Slice &a = F::reads ? call.in[0] : dy, &b = F::reads ? call.in[1] : dy;
  const BroadcastLoop loop(dy.shape, a.shape, b.shape);
  dispatch_compute(dy.dtype, [&]<class T>() {
    const T *pg = dy.as<T>(), *pa = a.as<T>(), *pb = b.as<T>();
    if (const Slice& da = call.grad_in[0])
      operand_grad<T>(loop, dy.shape, da, call.workspace,
                      [=](int64_t i, int64_t ia, int64_t ib) { return F::da(pg[i], pa[ia], pb[ib]); });
    if (const Slice& db = call.grad_in[1])
      operand_grad<T>(loop, dy.shape, db, call.workspace,
                      [=](int64_t i, int64_t ia, int64_t ib) { return F::db(pg[i], pa[ia], pb[ib]); });
  });
}

}  // namespace cpu

namespace {

// One sample per way that the axes can be stretched, and two large ones whose gradients are summed in chunks.
template <auto right>
Samples samples(DType dtype) {
  const auto sample = [&](const Shape& a, const Shape& b) {
    return Sample{{normal_sample(a, dtype, 1), right(b, dtype, 2)}, {}};
  };
  return {sample({3, 5}, {3, 5}),
          sample({}, {}),
          sample({7}, {}),
          sample({1}, {2, 3}),
          sample({4, 6}, {6}),
          sample({6}, {4, 6}),
          sample({4, 6}, {4, 1}),
          sample({3, 1}, {1, 5}),
          sample({2, 3, 1, 5}, {3, 4, 1}),
          sample({2, 1, 2, 1, 3, 1, 2, 2}, {1, 2, 2, 3, 1, 2, 1, 2}),
          sample({130, 137}, {137}),
          sample({}, {40001})};
}

template <class F>
constexpr Op binary(const char* formula, Samples (*samples)(DType)) {
  return {
      .name = F::name,
      .formula = formula,
      .inputs = 2,
      .infer = infer<F>,
      .forward = {cpu::binary<F>, ON_CUDA(binary<F>)},
      .backward = {cpu::binary_grad<F>, ON_CUDA(binary_grad<F>), binary_grad_workspace, ON_CUDA(binary_grad_workspace)},
      .needs_in = F::reads,
      .needs_out = nothing,
      .samples = samples,
  };
}

}  // namespace

constinit const Op add_op = binary<scalar::Add>("y = a + b", samples<normal_sample>);
constinit const Op sub_op = binary<scalar::Sub>("y = a - b", samples<normal_sample>);
constinit const Op mul_op = binary<scalar::Mul>("y = a b", samples<normal_sample>);
constinit const Op div_op = binary<scalar::Div>("y = a / b", samples<positive_sample>);

Tensor add(const Tensor& a, const Tensor& b) { return apply(add_op, {a, b})[0]; }
Tensor sub(const Tensor& a, const Tensor& b) { return apply(sub_op, {a, b})[0]; }
Tensor mul(const Tensor& a, const Tensor& b) { return apply(mul_op, {a, b})[0]; }
Tensor div(const Tensor& a, const Tensor& b) { return apply(div_op, {a, b})[0]; }

}  // namespace xent
