// The one operation of cuBLASLt: D = f(alpha op(A) op(B) + beta C), where f, the epilogue, adds a bias per row, cuts at
// 0 and keeps a mask of bits, or is the backward of that. Sums over a factor or over a backward's rows go where the
// bias pointer says.
#pragma once

#include <cublasLt.h>

#include "product.h"

namespace xent::emulator {

struct Description {
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cublasLtPointerMode_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  void* bias = nullptr;
  int32_t bias_type = -1;  // that of the result
  void* mask = nullptr;
  int64_t mask_leading = 0;  // in bits
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
};

struct Matmul {
  Description description;
  Operand a, b, c, d;

  // What cuBLASLt would say of the shapes and types, and of the pointers.
  cublasStatus_t check() const;
  cublasStatus_t check_pointers() const;

  // T is float, or double for f64.
  template <class T>
  void run(T alpha, T beta) const;

 private:
  bool has(int bits) const;
  bool transposes_a() const { return description.transpose_a != CUBLAS_OP_N; }
  bool transposes_b() const { return description.transpose_b != CUBLAS_OP_N; }
  Operand bias(int64_t length) const;
};

}  // namespace xent::emulator
