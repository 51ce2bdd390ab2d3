// add, sub, mul, div:  y = a o b, elements aligned at the last axis, extents of 1 stretched
//
// The functions and the terms of the gradients are those of ops/binary.h, computed in the tensors' own type. The
// gradient of an operand that was stretched is the sum of its terms, added in f64 and rounded once (axis_sum.cuh): the
// terms are not written to memory. Forward moves 3 values per element of y, 16 bytes at a time where the shapes are
// equal.
#include <algorithm>

#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/broadcast.cuh>
#include <xent/cuda/call.cuh>
#include <xent/cuda/pack.cuh>
#include <xent/ops/binary.h>

namespace xent::cuda {

namespace {

// packs is 0 unless the shapes are equal.
template <class F, class T>
__global__ void __launch_bounds__(threads_per_block)
    binary_kernel(const Broadcast broadcast, const T* a, const T* b, T* y, int64_t packs, int64_t count) {
  constexpr int size = Pack<T>::size;
  for (int64_t p = first_index(); p < packs; p += grid_stride()) {
    const Pack<T> left = pack(a, p), right = pack(b, p);
    Pack<T> out;
#pragma unroll
    for (int k = 0; k < size; ++k) out.values[k] = F::f(left.values[k], right.values[k]);
    pack(y, p) = out;
  }
  for (int64_t i = packs * size + first_index(); i < count; i += grid_stride()) {
    const auto at = broadcast.at(i);
    y[i] = F::f(a[at.a], b[at.b]);
  }
}

// The term of one operand's gradient for element i of y. Where it does not read a and b, their bytes were dropped.
template <class F, int operand, class T>
struct OperandGrad {
  using Value = double;
  using Running = double;
  Broadcast broadcast;
  const T *dy, *a, *b;

  __device__ T operator()(int64_t i) const {
    T left{}, right{};
    if constexpr (F::reads != nothing) {
      const auto at = broadcast.at(i);
      left = a[at.a], right = b[at.b];
    }
    return operand == 0 ? F::da(dy[i], left, right) : F::db(dy[i], left, right);
  }
  __device__ void add(double& running, const Place& place) const {
    running += static_cast<double>((*this)(place.element));
  }
  __device__ double finish(double running) const { return running; }
  template <class Check>
  void for_each_pointer(Check&& check) const {
    check(dy), check(a), check(b);
  }
};

template <class Term, class T>
__global__ void __launch_bounds__(threads_per_block) write_terms(const Term term, T* d, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) d[i] = term(i);
}

template <class F, int operand, class T>
void operand_grad(const Call& call) {
  const Slice &d = call.grad_in[operand], &dy = call.grad_out[0];
  if (!d) return;
  const OperandGrad<F, operand, T> term{Broadcast(dy.shape, call.in[0].shape, call.in[1].shape), dy.as<T>(),
                                        call.in[0].as<T>(), call.in[1].as<T>()};
  const int64_t count = dy.shape.elements();
  if (!is_stretched(d.shape, dy.shape)) {
    start(call, F::name, {blocks_for(count)}, write_terms<OperandGrad<F, operand, T>, T>, term, d.as<T>(), count);
    return;
  }
  const Mask axes = stretched_axes(d.shape, dy.shape);
  if constexpr (F::reads == nothing) {  // dy or -dy: the kernels of a sum
    const double sign = operand == 0 ? F::da(1.0, 0.0, 0.0) : F::db(1.0, 0.0, 0.0);
    sum_axes(call, F::name, dy.shape, axes, ElementsOf<T>{dy.as<T>()}, RoundedTo<T>{d.as<T>(), sign}, call.workspace);
  } else {
    sum_axes(call, F::name, dy.shape, axes, term, RoundedTo<T>{d.as<T>(), 1}, call.workspace);
  }
}

}  // namespace

template <class F>
void binary(const Call& call) {
  const Slice &a = call.in[0], &b = call.in[1], &y = call.out[0];
  const int64_t count = y.shape.elements();
  dispatch_compute(y.dtype, [&]<class T>() {
    const bool equal = !is_stretched(a.shape, y.shape) && !is_stretched(b.shape, y.shape);
    const int64_t packs = equal ? packs_in<T>(count, {a.data, b.data, y.data}) : 0;
    start(call, F::name, {blocks_for_packs<T>(packs, count)}, binary_kernel<F, T>, Broadcast(y.shape, a.shape, b.shape),
          a.as<T>(), b.as<T>(), y.as<T>(), packs, count);
  });
}

template <class F>
void binary_grad(const Call& call) {
  dispatch_compute(call.grad_out[0].dtype, [&]<class T>() {
    operand_grad<F, 0, T>(call);
    operand_grad<F, 1, T>(call);
  });
}

size_t binary_grad_workspace(const Call& call) {
  const Shape& y = call.grad_out[0].shape;
  size_t bytes = 0;  // one after the other, the two gradients use the same bytes
  for (const Slice& grad : call.grad_in)
    if (grad && is_stretched(grad.shape, y))
      bytes = std::max(bytes, AxisSum(y, stretched_axes(grad.shape, y)).workspace<double>());
  return bytes;
}

template void binary<scalar::Add>(const Call&);
template void binary_grad<scalar::Add>(const Call&);
template void binary<scalar::Sub>(const Call&);
template void binary_grad<scalar::Sub>(const Call&);
template void binary<scalar::Mul>(const Call&);
template void binary_grad<scalar::Mul>(const Call&);
template void binary<scalar::Div>(const Call&);
template void binary_grad<scalar::Div>(const Call&);

}  // namespace xent::cuda
