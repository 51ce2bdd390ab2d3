// cuBLAS and cuBLASLt on the emulator against plain loops in f64: transposes, leading dimensions, types, batches,
// scalars on either side, epilogues; and what the real ones refuse.
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <xent/cuda/emulator/blas/epilogues.h>
#include <xent/cuda/emulator/site.h>

#include "emulator_array.h"

using namespace xent;

namespace {

// Small integers: products and sums of them are exact in every type.
std::vector<float> integers(size_t count, int seed) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>((static_cast<int>(i) * 7 + seed) % 5 - 2);
  return values;
}

template <class T>
std::vector<T> as(const std::vector<float>& values) {
  return std::vector<T>(values.begin(), values.end());
}

// op(A) op(B) at (row, column); all matrices by columns.
float product_at(const std::vector<float>& a, bool ta, int lda, const std::vector<float>& b, bool tb, int ldb, int k,
                 int row, int column) {
  float sum = 0;
  for (int i = 0; i < k; ++i)
    sum += a[static_cast<size_t>(ta ? i + row * lda : row + i * lda)] *
           b[static_cast<size_t>(tb ? column + i * ldb : i + column * ldb)];
  return sum;
}

struct Blas {
  cublasHandle_t handle = nullptr;
  Blas() { cublasCreate(&handle); }
  ~Blas() { cublasDestroy(handle); }
};

template <class T>
void check_gemm(cudaDataType_t type, cublasComputeType_t compute) {
  const Blas blas;
  const int m = 3, n = 4, k = 5;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const int lda = (ta ? k : m) + 1, ldb = (tb ? n : k) + 2, ldc = m + 1;
      const auto x = integers(static_cast<size_t>(lda * (ta ? m : k)), 1);
      const auto y = integers(static_cast<size_t>(ldb * (tb ? k : n)), 2);
      const DeviceArray<T> a(as<T>(x)), b(as<T>(y)), c(static_cast<size_t>(ldc * n));
      using Scalar = std::conditional_t<std::is_same_v<T, double>, double, float>;
      const Scalar alpha = 2, zero = 0, one = 1;
      const auto gemm = [&](const Scalar& beta) {
        return cublasGemmEx(blas.handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k,
                            &alpha, a.data(), type, lda, b.data(), type, ldb, &beta, c.data(), type, ldc, compute,
                            CUBLAS_GEMM_DEFAULT);
      };
      REQUIRE(gemm(zero) == CUBLAS_STATUS_SUCCESS);  // what is in C are NaNs
      REQUIRE(gemm(one) == CUBLAS_STATUS_SUCCESS);
      const std::vector<T> got = c.values();
      for (int column = 0; column < n; ++column) {
        for (int row = 0; row < m; ++row)
          CHECK(static_cast<float>(got[static_cast<size_t>(row + column * ldc)]) ==
                4 * product_at(x, ta, lda, y, tb, ldb, k, row, column));
        CHECK(std::isnan(static_cast<float>(got[static_cast<size_t>(m + column * ldc)])));  // not the matrix's
      }
    }
}

// A product of cuBLASLt with an epilogue, [3, 5] by [5, 4].
struct Fused {
  static constexpr int m = 3, n = 4, k = 5;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t how = nullptr;
  cublasLtMatrixLayout_t layout_a = nullptr, layout_b = nullptr, layout_d = nullptr;
  const std::vector<float> x = integers(m * k, 1), y = integers(k * n, 2);
  const DeviceArray<float> a{x}, b{y}, d{m * n};

  explicit Fused(cublasLtEpilogue_t epilogue) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&how, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&layout_a, CUDA_R_32F, m, k, m);
    cublasLtMatrixLayoutCreate(&layout_b, CUDA_R_32F, k, n, k);
    cublasLtMatrixLayoutCreate(&layout_d, CUDA_R_32F, m, n, m);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  }
  ~Fused() {
    cublasLtMatrixLayoutDestroy(layout_a);
    cublasLtMatrixLayoutDestroy(layout_b);
    cublasLtMatrixLayoutDestroy(layout_d);
    cublasLtMatmulDescDestroy(how);
    cublasLtDestroy(handle);
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    REQUIRE(cublasLtMatmulDescSetAttribute(how, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t run() const {
    const float alpha = 1, beta = 0;
    return cublasLtMatmul(handle, how, &alpha, a.data(), layout_a, b.data(), layout_b, &beta, d.data(), layout_d,
                          d.data(), layout_d, nullptr, nullptr, 0, nullptr);
  }
  float product(int row, int column) const { return product_at(x, false, m, y, false, k, k, row, column); }
};

size_t at(int row, int column) { return static_cast<size_t>(row + column * Fused::m); }

}  // namespace

TEST_CASE("a product of any transposes, leading dimensions and types; with beta 0 the result is not read") {
  check_gemm<float>(CUDA_R_32F, CUBLAS_COMPUTE_32F);
  check_gemm<double>(CUDA_R_64F, CUBLAS_COMPUTE_64F);
  check_gemm<__nv_bfloat16>(CUDA_R_16BF, CUBLAS_COMPUTE_32F);
}

TEST_CASE("a batch of products, with the scalars on the device and read when their turn has come") {
  const Blas blas;
  const std::vector<float> x = integers(2 * 6, 1), y = integers(6, 2);
  const DeviceArray<float> a(x), b(y), c(2 * 4), alpha(std::vector<float>{0}), beta(std::vector<float>{0});
  cublasSetPointerMode(blas.handle, CUBLAS_POINTER_MODE_DEVICE);
  REQUIRE(cublasGemmStridedBatchedEx(blas.handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 3, alpha.data(), a.data(), CUDA_R_32F,
                                     2, 6, b.data(), CUDA_R_32F, 3, 0, beta.data(), c.data(), CUDA_R_32F, 2, 4, 2,
                                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
  const std::vector<float> unread = c.values();
  for (const float value : unread) CHECK(value == 0);
  const float three = 3;
  check(cudaMemcpy(alpha.data(), &three, sizeof(three), cudaMemcpyHostToDevice));
  REQUIRE(cublasGemmStridedBatchedEx(blas.handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 3, alpha.data(), a.data(), CUDA_R_32F,
                                     2, 6, b.data(), CUDA_R_32F, 3, 0, beta.data(), c.data(), CUDA_R_32F, 2, 4, 2,
                                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
  const std::vector<float> got = c.values();
  for (int i = 0; i < 2; ++i)
    for (int row = 0; row < 2; ++row)
      for (int column = 0; column < 2; ++column) {
        const std::vector<float> one_of(x.begin() + i * 6, x.begin() + i * 6 + 6);
        CHECK(got[static_cast<size_t>(i * 4 + row + column * 2)] ==
              3 * product_at(one_of, false, 2, y, false, 3, 3, row, column));
      }
}

TEST_CASE("what cuBLAS refuses, and a matrix beyond its memory") {
  const Blas blas;
  const DeviceArray<float> a(12), b(12), c(9);
  const float one = 1, zero = 0;
  const auto gemm = [&](int lda, int ldc, cudaDataType_t type, void* result) {
    return cublasGemmEx(blas.handle, CUBLAS_OP_N, CUBLAS_OP_N, 3, 3, 4, &one, a.data(), type, lda, b.data(), type, 4,
                        &zero, result, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  };
  CHECK(gemm(3, 3, CUDA_R_32F, c.data()) == CUBLAS_STATUS_SUCCESS);
  CHECK(gemm(2, 3, CUDA_R_32F, c.data()) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(gemm(3, 2, CUDA_R_32F, c.data()) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(gemm(3, 3, CUDA_R_8I, c.data()) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK_THROWS_AS(gemm(3, 4, CUDA_R_32F, c.data()), emulator::KernelError);
  float host[9];
  CHECK_THROWS_AS(gemm(3, 3, CUDA_R_32F, host), emulator::KernelError);
  check(cudaDeviceSynchronize());
}

TEST_CASE("cuBLASLt adds a bias per row, cuts at 0, and keeps which elements it let pass") {
  Fused fused(CUBLASLT_EPILOGUE_RELU_AUX_BIAS);
  const std::vector<float> bias = {-3, 0, 2};
  const DeviceArray<float> device_bias(bias);
  const DeviceArray<uint8_t> mask(128 / 8 * Fused::n);
  fused.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, device_bias.data());
  fused.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask.data());
  CHECK(fused.run() == CUBLAS_STATUS_INVALID_VALUE);  // no leading dimension of the mask
  fused.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{128});
  REQUIRE(fused.run() == CUBLAS_STATUS_SUCCESS);
  const std::vector<float> got = fused.d.values();
  const std::vector<uint8_t> bits = mask.values();
  for (int row = 0; row < Fused::m; ++row)
    for (int column = 0; column < Fused::n; ++column) {
      const float before = fused.product(row, column) + bias[static_cast<size_t>(row)];
      CHECK(got[at(row, column)] == std::max(before, 0.0f));
      CHECK((bits[static_cast<size_t>(column * 16)] >> row & 1) == (before > 0));
    }
}

TEST_CASE("cuBLASLt's backward epilogue masks the product and sums its rows") {
  Fused fused(CUBLASLT_EPILOGUE_DRELU_BGRAD);
  const DeviceArray<float> sums(Fused::m);
  std::vector<uint8_t> bits(128 / 8 * Fused::n);
  for (size_t column = 0; column < Fused::n; ++column) bits[column * 16] = static_cast<uint8_t>(column * 3 + 1);
  const DeviceArray<uint8_t> mask(bits);
  fused.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums.data());
  fused.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask.data());
  fused.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{128});
  REQUIRE(fused.run() == CUBLAS_STATUS_SUCCESS);
  const std::vector<float> got = fused.d.values(), row_sums = sums.values();
  for (int row = 0; row < Fused::m; ++row) {
    float sum = 0;
    for (int column = 0; column < Fused::n; ++column) {
      const float passed = bits[static_cast<size_t>(column * 16)] >> row & 1 ? fused.product(row, column) : 0;
      CHECK(got[at(row, column)] == passed);
      sum += passed;
    }
    CHECK(row_sums[static_cast<size_t>(row)] == sum);
  }
}

TEST_CASE("cuBLASLt sums a factor over the axis that the product sums over") {
  Fused of_a(CUBLASLT_EPILOGUE_BGRADA), of_b(CUBLASLT_EPILOGUE_BGRADB);
  const DeviceArray<float> sums_a(Fused::m), sums_b(Fused::n);
  of_a.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums_a.data());
  of_b.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, sums_b.data());
  REQUIRE(of_a.run() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(of_b.run() == CUBLAS_STATUS_SUCCESS);
  const std::vector<float> a = sums_a.values(), b = sums_b.values();
  for (int row = 0; row < Fused::m; ++row) {
    float sum = 0;
    for (int i = 0; i < Fused::k; ++i) sum += of_a.x[static_cast<size_t>(row + i * Fused::m)];
    CHECK(a[static_cast<size_t>(row)] == sum);
  }
  for (int column = 0; column < Fused::n; ++column) {
    float sum = 0;
    for (int i = 0; i < Fused::k; ++i) sum += of_b.y[static_cast<size_t>(i + column * Fused::k)];
    CHECK(b[static_cast<size_t>(column)] == sum);
  }
}

TEST_CASE("a cuBLASLt without epilogues says so when it is asked") {
  const auto ways = [](cublasLtEpilogue_t epilogue) {
    Fused fused(epilogue);
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    cublasLtMatmulAlgoGetHeuristic(fused.handle, fused.how, fused.layout_a, fused.layout_b, fused.layout_d,
                                   fused.layout_d, preference, 1, &result, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    return found;
  };
  CHECK(ways(CUBLASLT_EPILOGUE_BIAS) == 1);
  CHECK(ways(CUBLASLT_EPILOGUE_GELU) == 0);
  const emulator::NoEpilogues none;
  CHECK(ways(CUBLASLT_EPILOGUE_BIAS) == 0);
  CHECK(ways(CUBLASLT_EPILOGUE_DEFAULT) == 1);
}
