// cuBLAS: products of matrices in device memory, in a stream and so in graphs too.
#include <cublas_v2.h>

#include <algorithm>

#include "../memory.h"
#include "../stream.h"
#include "product.h"

using namespace xent::emulator;

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
};

namespace {

struct Gemm {
  bool transpose_a, transpose_b;
  Operand a, b, c;
  long long stride_a, stride_b, stride_c;
  int batch;
};

Operand moved(Operand operand, long long elements) {
  operand.data =
      static_cast<const char*>(operand.data) + elements * static_cast<long long>(element_bytes(operand.type));
  return operand;
}

template <class T>
cublasStatus_t enqueue_gemm(const cublasContext& context, const Gemm& gemm, const void* alpha, const void* beta) {
  // Of the host's scalars the values count, of the device's what is there when the product's turn has come.
  const bool on_device = context.pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
  const T host_alpha = on_device ? T(0) : *static_cast<const T*>(alpha);
  const T host_beta = on_device ? T(0) : *static_cast<const T*>(beta);
  const cudaError_t error = enqueue(context.stream, [=] {
    const T by = on_device ? *static_cast<const T*>(alpha) : host_alpha;
    const T keep = on_device ? *static_cast<const T*>(beta) : host_beta;
    for (int i = 0; i < gemm.batch; ++i) {
      const Operand c = moved(gemm.c, i * gemm.stride_c);
      Matrix<T> result = product<T>(moved(gemm.a, i * gemm.stride_a), gemm.transpose_a,
                                    moved(gemm.b, i * gemm.stride_b), gemm.transpose_b);
      result *= by;
      if (keep != 0) result += keep * load<T>(c);  // with 0, what is there is not read: it may be NaN
      store(result, c);
    }
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, size_t bytes) {
  if (bytes > 0 && !is_device_memory(workspace, bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k, const void* alpha,
                                          const void* a, cudaDataType type_a, int leading_a, long long stride_a,
                                          const void* b, cudaDataType type_b, int leading_b, long long stride_b,
                                          const void* beta, void* c, cudaDataType type_c, int leading_c,
                                          long long stride_c, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
  const DeviceLock lock;
  const bool ta = transpose_a != CUBLAS_OP_N, tb = transpose_b != CUBLAS_OP_N;
  const int rows_a = ta ? k : m, rows_b = tb ? n : k;
  if (m < 0 || n < 0 || k < 0 || batch < 0 || leading_a < std::max(1, rows_a) || leading_b < std::max(1, rows_b) ||
      leading_c < std::max(1, m))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool f64 = compute == CUBLAS_COMPUTE_64F;
  if (type_a != type_b || !is_supported(type_a, type_c) || f64 != (type_a == CUDA_R_64F) ||
      (!f64 && compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
       compute != CUBLAS_COMPUTE_32F_FAST_TF32))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (m == 0 || n == 0 || batch == 0) return CUBLAS_STATUS_SUCCESS;
  const Gemm gemm = {ta,
                     tb,
                     {a, type_a, rows_a, ta ? m : k, leading_a},
                     {b, type_b, rows_b, tb ? k : n, leading_b},
                     {c, type_c, m, n, leading_c},
                     stride_a,
                     stride_b,
                     stride_c,
                     batch};
  for (const int i : {0, batch - 1}) {
    check_operand(moved(gemm.a, i * stride_a), "cublasGemm", "A");
    check_operand(moved(gemm.b, i * stride_b), "cublasGemm", "B");
    check_operand(moved(gemm.c, i * stride_c), "cublasGemm", "C");
  }
  return f64 ? enqueue_gemm<double>(*handle, gemm, alpha, beta) : enqueue_gemm<float>(*handle, gemm, alpha, beta);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m,
                            int n, int k, const void* alpha, const void* a, cudaDataType type_a, int leading_a,
                            const void* b, cudaDataType type_b, int leading_b, const void* beta, void* c,
                            cudaDataType type_c, int leading_c, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, type_a, leading_a, 0, b,
                                    type_b, leading_b, 0, beta, c, type_c, leading_c, 0, 1, compute, algorithm);
}

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "a status that the emulator does not have";
  }
}
const char* cublasGetStatusString(cublasStatus_t status) { return cublasGetStatusName(status); }

}  // extern "C"
