// gemm: C = op(A) op(B) + beta C, and an epilogue on each finished block of C while it is in the cache. Row-major.
#pragma once

#include <cstdint>

#include <xent/ops/gemm_shape.h>
#include <xent/ops/ops.h>

namespace xent::cpu {

// What happens to C last: C = activation(C + bias), the bias one per column. Nothing by default.
template <class T>
struct Epilogue {
  const T* bias = nullptr;
  Activation activation = Activation::none;
};

// Instantiated for float and double. beta is 0, which writes without reading, or 1.
template <class T>
void gemm(const GemmShape& shape, const T* a, const T* b, float beta, T* c, const Epilogue<T>& epilogue = {});

}  // namespace xent::cpu
