// cuBLASLt's functions: descriptions of a product, asking whether there is a way to compute it, and doing so in a
// stream.
#include <cublasLt.h>
#include <cublas_v2.h>

#include <cstring>

#include "../memory.h"
#include "../runtime.h"
#include "../stream.h"
#include "matmul.h"

using namespace xent::emulator;

namespace {

// What the opaque types hold.
struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t leading;
};
static_assert(sizeof(Description) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));

template <class T, class Opaque>
T get(const Opaque* opaque) {
  T value;
  std::memcpy(&value, opaque->data, sizeof(T));
  return value;
}
template <class T, class Opaque>
void set(Opaque* opaque, const T& value) {
  std::memcpy(opaque->data, &value, sizeof(T));
}

Matmul matmul_of(const Description& description, const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                 cublasLtMatrixLayout_t layout_b, const void* c, cublasLtMatrixLayout_t layout_c, const void* d,
                 cublasLtMatrixLayout_t layout_d) {
  const auto operand = [](const void* data, cublasLtMatrixLayout_t opaque) {
    const auto layout = get<Layout>(opaque);
    return Operand{data, layout.type, static_cast<int64_t>(layout.rows), static_cast<int64_t>(layout.columns),
                   layout.leading};
  };
  return {description, operand(a, layout_a), operand(b, layout_b), operand(c, layout_c), operand(d, layout_d)};
}

template <class T>
cublasStatus_t enqueue_matmul(const Matmul& matmul, const void* alpha, const void* beta, cudaStream_t stream) {
  const bool on_device = matmul.description.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
  const T host_alpha = on_device ? T(0) : *static_cast<const T*>(alpha);
  const T host_beta = on_device ? T(0) : *static_cast<const T*>(beta);
  const cudaError_t error = enqueue(stream, [=] {
    matmul.run<T>(on_device ? *static_cast<const T*>(alpha) : host_alpha,
                  on_device ? *static_cast<const T*>(beta) : host_beta);
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace

struct cublasLtContext {};

extern "C" {

const char* cublasLtGetStatusName(cublasStatus_t status) { return cublasGetStatusName(status); }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute, cudaDataType_t) {
  *made = new cublasLtMatmulDescOpaque_t;
  return cublasLtMatmulDescInit_internal(*made, sizeof(**made), compute, CUDA_R_32F);
}
cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t made, size_t, cublasComputeType_t compute,
                                               cudaDataType_t) {
  Description description;
  description.compute = compute;
  set(made, description);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t made, cublasLtMatmulDescAttributes_t attribute,
                                              const void* from, size_t bytes) {
  auto description = get<Description>(made);
  const auto take = [&](auto& to) {
    if (bytes != sizeof(to)) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, from, bytes);
    set(made, description);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(description.transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(description.transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(description.epilogue);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return take(description.pointer_mode);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(description.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(description.bias_type);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return take(description.mask);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return take(description.mask_leading);
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  *made = new cublasLtMatrixLayoutOpaque_t;
  return cublasLtMatrixLayoutInit_internal(*made, sizeof(**made), type, rows, columns, leading);
}
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t made, size_t, cudaDataType type, uint64_t rows,
                                                 uint64_t columns, int64_t leading) {
  set(made, Layout{type, rows, columns, leading});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  *made = new cublasLtMatmulPreferenceOpaque_t();
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t made, size_t) {
  *made = {};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  const Matmul matmul = matmul_of(get<Description>(description), nullptr, a, nullptr, b, nullptr, c, nullptr, d);
  const cublasStatus_t status = matmul.check();
  if (status != CUBLAS_STATUS_SUCCESS || wanted < 1) return status;
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* c, cublasLtMatrixLayout_t layout_c, void* d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t*, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const DeviceLock lock;
  const Matmul matmul = matmul_of(get<Description>(description), a, layout_a, b, layout_b, c, layout_c, d, layout_d);
  if (const cublasStatus_t status = matmul.check(); status != CUBLAS_STATUS_SUCCESS) return status;
  if (const cublasStatus_t status = matmul.check_pointers(); status != CUBLAS_STATUS_SUCCESS) return status;
  if (workspace_bytes > 0 && !is_device_memory(workspace, workspace_bytes)) return CUBLAS_STATUS_INVALID_VALUE;
  const int device = find_stream(stream)->device;
  if (device != current_device() || (workspace && device_of(workspace) != device) || device_of(d) != device)
    return CUBLAS_STATUS_EXECUTION_FAILED;
  check_operand(matmul.a, "cublasLtMatmul", "A");
  check_operand(matmul.b, "cublasLtMatmul", "B");
  check_operand(matmul.d, "cublasLtMatmul", "D");
  if (matmul.a.type == CUDA_R_64F) return enqueue_matmul<double>(matmul, alpha, beta, stream);
  return enqueue_matmul<float>(matmul, alpha, beta, stream);
}

}  // extern "C"
