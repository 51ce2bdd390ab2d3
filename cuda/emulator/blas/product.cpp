#include "product.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "../memory.h"
#include "../threads.h"

namespace xent::emulator {
namespace {

template <class T>
T element(const Operand& operand, int64_t at) {
  switch (operand.type) {
    case CUDA_R_64F: return static_cast<T>(static_cast<const double*>(operand.data)[at]);
    case CUDA_R_16F: return static_cast<T>(__half2float(static_cast<const __half*>(operand.data)[at]));
    case CUDA_R_16BF: return static_cast<T>(__bfloat162float(static_cast<const __nv_bfloat16*>(operand.data)[at]));
    default: return static_cast<T>(static_cast<const float*>(operand.data)[at]);
  }
}

template <class T>
void set_element(const Operand& operand, int64_t at, T value) {
  void* const data = const_cast<void*>(operand.data);
  switch (operand.type) {
    case CUDA_R_64F: static_cast<double*>(data)[at] = static_cast<double>(value); return;
    case CUDA_R_16F: static_cast<__half*>(data)[at] = __float2half_rn(static_cast<float>(value)); return;
    case CUDA_R_16BF: static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(static_cast<float>(value)); return;
    default: static_cast<float*>(data)[at] = static_cast<float>(value); return;
  }
}

}  // namespace

bool is_supported(cudaDataType_t factors, cudaDataType_t result) {
  switch (factors) {
    case CUDA_R_64F:
    case CUDA_R_32F: return result == factors;
    case CUDA_R_16F:
    case CUDA_R_16BF: return result == factors || result == CUDA_R_32F;
    default: return false;
  }
}

size_t element_bytes(cudaDataType_t type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

void check_operand(const Operand& operand, const char* call, const char* name) {
  if (operand.rows == 0 || operand.columns == 0) return;
  const auto elements = static_cast<size_t>((operand.columns - 1) * operand.leading + operand.rows);
  if (!is_device_memory(operand.data, elements * element_bytes(operand.type)))
    throw KernelError(fmt::format("{}: {} at {}, {} rows by {} columns {} apart, is not, or not all, in device memory",
                                  call, name, operand.data, operand.rows, operand.columns, operand.leading));
}

template <class T>
Matrix<T> load(const Operand& operand) {
  Matrix<T> values(operand.rows, operand.columns);
  for (int64_t column = 0; column < operand.columns; ++column)
    for (int64_t row = 0; row < operand.rows; ++row)
      values(row, column) = element<T>(operand, row + column * operand.leading);
  return values;
}

template <class T>
void store(const Matrix<T>& values, const Operand& operand) {
  for (int64_t column = 0; column < operand.columns; ++column)
    for (int64_t row = 0; row < operand.rows; ++row)
      set_element(operand, row + column * operand.leading, values(row, column));
}

template <class T>
Matrix<T> product(const Operand& a, bool transpose_a, const Operand& b, bool transpose_b) {
  Matrix<T> left = load<T>(a), right = load<T>(b);
  if (transpose_a) left.transposeInPlace();
  if (transpose_b) right.transposeInPlace();
  Matrix<T> result(left.rows(), right.cols());
  result.noalias() = left * right;
  return result;
}

template Matrix<float> load(const Operand&);
template Matrix<double> load(const Operand&);
template void store(const Matrix<float>&, const Operand&);
template void store(const Matrix<double>&, const Operand&);
template Matrix<float> product(const Operand&, bool, const Operand&, bool);
template Matrix<double> product(const Operand&, bool, const Operand&, bool);

}  // namespace xent::emulator
