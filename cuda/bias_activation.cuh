// bias_activation:  y = f(y + b), in place, b one per column         what a product leaves to be done
//                   dz = dy f'(z), told from y                       what its gradients begin with
//
// f is none, relu, tanh or sigmoid. A product alone with its bias is one launch, by cuBLASLt's epilogue. Its epilogue
// of a relu is not used: it makes 0 of a NaN, and a training that has diverged would look well. So f is a pass over y:
// 2 elements moved for each, in f32 or f64 as they are.
#pragma once

#include <cstdint>

#include <xent/cuda/blas.h>
#include <xent/cuda/column_sums.cuh>
#include <xent/ops/elementwise.h>
#include <xent/ops/ops.h>

namespace xent::cuda {

struct Identity {
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return x;
  }
  template <class T>
  XENT_HOST_DEVICE T df(T) const {
    return T(1);
  }
};

// Calls body(function) with the scalar function of an activation.
template <class Body>
void with_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::none: return body(Identity{});
    case Activation::relu: return body(scalar::Relu{});
    case Activation::tanh: return body(scalar::Tanh{});
    case Activation::sigmoid: return body(scalar::Sigmoid{});
  }
}

namespace kernels {

template <class F, class T>
__global__ void bias_activation(F function, const T* bias, int64_t count, int64_t columns, T* y) {
  int64_t column = first_index() % columns;
  const int64_t step = grid_stride() % columns;
  for (int64_t i = first_index(); i < count; i += grid_stride()) {
    y[i] = function.f(bias ? y[i] + bias[column] : y[i]);
    column += column + step < columns ? step : step - columns;
  }
}

}  // namespace kernels

// y = f(y + bias) of [rows, columns]; bias may be null.
template <class T>
void bias_activation(const Call& call, int64_t rows, int64_t columns, const T* bias, Activation activation, T* y) {
  if (!bias && activation == Activation::none) return;
  with_activation(activation, [&]<class F>(F function) {
    start(call, "bias_activation", {blocks_for(rows * columns)}, kernels::bias_activation<F, T>, function, bias,
          rows * columns, columns, y);
  });
}

// y = f(A B + bias); bias may be null.
template <class T>
void gemm_activation(const Call& call, const GemmShape& shape, const T* a, const T* b, const T* bias,
                     Activation activation, T* y) {
  if (bias && activation == Activation::none && gemm_with_bias<T>(call, shape, a, b, bias, y)) return;
  gemm<T>(call, shape, a, b, 0, y);
  bias_activation<T>(call, shape.m, shape.n, bias, activation, y);
}

// dz of an element, which is also left in its place.
template <class F, class T>
struct ActivationGrad {
  F function;
  const T *y, *dy;
  T* dz;
  int64_t columns;

  __device__ T operator()(int64_t row, int64_t column) const {
    const int64_t at = row * columns + column;
    return dz[at] = function.df(y[at]) * dy[at];
  }
  template <class V>
  void for_each_pointer(V&& visit) const {
    visit(y);
    visit(dy);
    visit(dz);
  }
};

// Returns dz of a result [rows, columns] — written to place, or dy itself where there is no activation — and adds it up
// for the bias gradient, in the same pass.
template <class T>
const T* activation_grad(const Call& call, Activation activation, int64_t rows, int64_t columns, const Slice& db,
                         double* workspace, T* place) {
  const T *y = call.out[0].as<T>(), *dy = call.grad_out[0].as<T>();
  if (activation == Activation::none) {
    if (db) bias_grad<T>(call, rows, columns, Elements<T>{dy, columns}, db, workspace);
    return dy;
  }
  with_activation(activation, [&]<class F>(F function) {
    bias_grad<T>(call, rows, columns, ActivationGrad<F, T>{function, y, dy, place, columns}, db, workspace);
  });
  return place;
}

// The workspace of a gradient: sums of the bias gradient's parts, then dz.
struct GradWorkspace {
  size_t sums, dz;  // bytes

  GradWorkspace(Activation activation, int64_t rows, int64_t columns, DType dtype)
      : sums(aligned(bias_grad_workspace(rows, columns))),
        dz(activation == Activation::none ? 0 : aligned(static_cast<size_t>(rows * columns) * size_of(dtype))) {}

  size_t bytes() const { return sums + dz; }
  static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }
};

}  // namespace xent::cuda
