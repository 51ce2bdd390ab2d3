// C = A B by rows is C' = B' A' by columns, as cuBLASLt stores matrices: the factors change places, and what lies there
// by rows is the transpose already.
#include <xent/cuda/blas.h>

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <compare>
#include <map>
#include <mutex>
#include <type_traits>

#include <xent/core/require.h>
#include <xent/cuda/check.h>

namespace xent::cuda {

namespace {

void check_blas(cublasStatus_t status, const char* what) {
  require<DeviceError>(status == CUBLAS_STATUS_SUCCESS, "cuda: {}: {}", what, cublasLtGetStatusName(status));
}

// All that an algorithm is chosen by. Alignments, because a view may begin at any element.
struct Problem {
  cudaDataType_t type;
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  cublasLtEpilogue_t epilogue;
  uint32_t alignment_a, alignment_b, alignment_c;

  auto operator<=>(const Problem&) const = default;
};

uint32_t alignment_of(const void* data) {
  constexpr uintptr_t most = 64;  // what all memory has: a replayed product gets the eager one's algorithm, and bits
  const auto address = reinterpret_cast<uintptr_t>(data);
  return static_cast<uint32_t>(std::min(most, address & (~address + 1)));
}

// A problem in cuBLASLt's words.
struct Description {
  cublasLtMatmulDescOpaque_t how;
  cublasLtMatrixLayoutOpaque_t a, b, c;

  Description(const Problem& p, const void* bias) {
    const bool f64 = p.type == CUDA_R_64F;
    check_blas(cublasLtMatmulDescInit(&how, f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, p.type), "a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    init(a, p.type, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k);
    init(b, p.type, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n);
    init(c, p.type, p.m, p.n);
  }

 private:
  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
    check_blas(cublasLtMatmulDescSetAttribute(&how, attribute, &value, sizeof(value)), "a product's attribute");
  }
  static void init(cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, int64_t rows, int64_t columns) {
    check_blas(
        cublasLtMatrixLayoutInit(&layout, type, static_cast<uint64_t>(columns), static_cast<uint64_t>(rows), columns),
        "a product's matrix");
  }
};

// What cuBLASLt says of a type that it has no epilogue for.
bool refused(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
}

// Of one device. It stays until the program ends, when the driver may be gone already: so nothing is given back.
class Blas {
 public:
  Blas() {
    int device = 0, major = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking what it is");
    workspace_bytes_ = size_t{major >= 9 ? 32u : 4u} << 20;  // as cuBLAS has it
    check(cudaMalloc(&workspace_, workspace_bytes_), "the workspace of products");
    check_blas(cublasLtCreate(&handle_), "cuBLASLt");
  }
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  // Returns the algorithm, or null if there is none.
  const cublasLtMatmulAlgo_t* algorithm(const Problem& problem, Description& description) {
    const auto known = algorithms_.find(problem);
    const auto& [algorithm, exists] = known != algorithms_.end()
                                          ? known->second
                                          : algorithms_.emplace(problem, ask(problem, description)).first->second;
    return exists ? &algorithm : nullptr;
  }

  // Says whether it could.
  template <class T>
  bool run(Description& d, const T* a, const T* b, float beta, T* c, const cublasLtMatmulAlgo_t* algorithm,
           cudaStream_t stream) const {
    const T one = 1, factor = beta;
    const cublasStatus_t status = cublasLtMatmul(handle_, &d.how, &one, b, &d.b, a, &d.a, &factor, c, &d.c, c, &d.c,
                                                 algorithm, workspace_, workspace_bytes_, stream);
    if (refused(status)) return false;
    check_blas(status, "a product");
    return true;
  }

 private:
  struct Answer {
    cublasLtMatmulAlgo_t algorithm;
    bool exists;
  };

  Answer ask(const Problem& problem, Description& d) const {
    cublasLtMatmulPreferenceOpaque_t preference;
    check_blas(cublasLtMatmulPreferenceInit(&preference), "a preference");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check_blas(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)), "a preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_bytes_});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, problem.alignment_b);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.alignment_a);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, problem.alignment_c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, problem.alignment_c);
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, &d.how, &d.b, &d.a, &d.c, &d.c, &preference, 1, &result, &found);
    if (!refused(status)) check_blas(status, "asking for a product's algorithm");
    return {result.algo, status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS};
  }

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;
  std::map<Problem, Answer> algorithms_;
};

std::mutex mutex;  // of all there is of cuBLASLt

Blas& blas_of_this_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  static auto& all = *new std::map<int, Blas>;
  return all.try_emplace(device).first->second;
}

// Says whether it could.
template <class T>
bool multiply(const Call& call, const GemmShape& s, const T* a, const T* b, const T* bias, float beta, T* c) {
  const Problem problem = {std::is_same_v<T, double> ? CUDA_R_64F : CUDA_R_32F,
                           s.m,
                           s.n,
                           s.k,
                           s.transpose_a,
                           s.transpose_b,
                           bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT,
                           alignment_of(a),
                           alignment_of(b),
                           alignment_of(c)};
  Description description(problem, bias);
  const std::lock_guard lock(mutex);
  Blas& blas = blas_of_this_device();
  const cublasLtMatmulAlgo_t* algorithm = blas.algorithm(problem, description);
  return algorithm && blas.run(description, a, b, beta, c, algorithm, static_cast<cudaStream_t>(call.stream.handle));
}

}  // namespace

template <class T>
void gemm(const Call& call, const GemmShape& s, const T* a, const T* b, float beta, T* c) {
  if (s.m == 0 || s.n == 0) return;
  if (s.k == 0) {
    const size_t bytes = static_cast<size_t>(s.m) * static_cast<size_t>(s.n) * sizeof(T);
    if (beta == 0)
      check(cudaMemsetAsync(c, 0, bytes, static_cast<cudaStream_t>(call.stream.handle)), "a product of nothing");
    return;
  }
  require<DeviceError>(multiply<T>(call, s, a, b, nullptr, beta, c),
                       "cuda: cuBLASLt has no way to multiply [{}, {}] by [{}, {}] in {}", s.m, s.k, s.k, s.n,
                       dtype_of<T>);
}

template <class T>
bool gemm_with_bias(const Call& call, const GemmShape& s, const T* a, const T* b, const T* bias, T* c) {
  if (s.m == 0 || s.n == 0) return true;
  return s.k > 0 && alignment_of(bias) >= 16 && multiply<T>(call, s, a, b, bias, 0, c);
}

template void gemm(const Call&, const GemmShape&, const float*, const float*, float, float*);
template void gemm(const Call&, const GemmShape&, const double*, const double*, float, double*);
template bool gemm_with_bias(const Call&, const GemmShape&, const float*, const float*, const float*, float*);
template bool gemm_with_bias(const Call&, const GemmShape&, const double*, const double*, const double*, double*);

}  // namespace xent::cuda
