// gemm: products of matrices on the GPU, through cuBLASLt, on the call's stream. Row-major. Private.
//
//   gemm<float>(call, {batch, out, in}, x, weight, 0, y);
//
// f32 is computed in f32 and f64 in f64, never in TF32. The algorithm for a shape is asked for once and kept, as are a
// handle and a workspace per device: after the first call of a shape nothing is allocated, and a stream's capture may
// hold the product. On one machine, the same bits in every run.
#pragma once

#include <cstdint>

#include <xent/core/op.h>
#include <xent/ops/gemm_shape.h>

namespace xent::cuda {

// C = op(A) op(B) + beta C; beta is 0, which writes without reading, or 1. With k = 0 the product is 0. Instantiated
// for float and double. Throws DeviceError if the device refuses.
template <class T>
void gemm(const Call& call, const GemmShape& shape, const T* a, const T* b, float beta, T* c);

// C = op(A) op(B) + bias, one per column, in one launch. Returns false, with nothing done, where cuBLASLt has no way
// to: for some types, for a bias that is not aligned to 16 bytes.
template <class T>
bool gemm_with_bias(const Call& call, const GemmShape& shape, const T* a, const T* b, const T* bias, T* c);

}  // namespace xent::cuda
