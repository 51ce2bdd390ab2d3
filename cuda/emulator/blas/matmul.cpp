#include "matmul.h"

#include <algorithm>

#include "../memory.h"
#include "epilogues.h"

namespace xent::emulator {
namespace {

int no_epilogues = 0;

// The values of cublasLtEpilogue_t are made of these, but for the default, which is 1.
constexpr int relu_bit = 2, bias_bit = 4, relu_backward_bit = 8, bias_grad_bit = 16, mask_bit = 128, sum_a_bit = 256,
              sum_b_bit = 512, known_bits = 1 | 2 | 4 | 8 | 16 | 128 | 256 | 512;

// The sums over the axis that the product sums over, [rows or columns of D, 1].
template <class T>
Matrix<T> sums(const Operand& factor, bool over_rows) {
  const Matrix<T> values = load<T>(factor);
  if (over_rows) return values.colwise().sum().transpose();
  return values.rowwise().sum();
}

}  // namespace

NoEpilogues::NoEpilogues() { ++no_epilogues; }
NoEpilogues::~NoEpilogues() { --no_epilogues; }

bool Matmul::has(int bits) const { return description.epilogue > 1 && (description.epilogue & bits); }

cublasStatus_t Matmul::check() const {
  const Description& how = description;
  const int64_t m = transposes_a() ? a.columns : a.rows, n = transposes_b() ? b.rows : b.columns;
  const int64_t inner = transposes_a() ? a.rows : a.columns;
  if (inner != (transposes_b() ? b.columns : b.rows) || d.rows != m || d.columns != n || c.rows != m || c.columns != n)
    return CUBLAS_STATUS_INVALID_VALUE;
  for (const Operand* operand : {&a, &b, &c, &d})
    if (operand->leading < std::max<int64_t>(1, operand->rows)) return CUBLAS_STATUS_INVALID_VALUE;
  if (a.type != b.type || c.type != d.type || !is_supported(a.type, d.type) || (how.epilogue & ~known_bits) ||
      (how.compute == CUBLAS_COMPUTE_64F) != (a.type == CUDA_R_64F) || (how.epilogue > 1 && no_epilogues > 0))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t Matmul::check_pointers() const {
  const Description& how = description;
  if (has(bias_bit | bias_grad_bit | sum_a_bit | sum_b_bit) && !is_device_memory(how.bias, 1))
    return CUBLAS_STATUS_INVALID_VALUE;
  const auto mask_bytes = static_cast<size_t>(how.mask_leading / 8 * d.columns);
  if (has(mask_bit) && (how.mask_leading % 128 != 0 || how.mask_leading < d.rows ||
                        reinterpret_cast<uintptr_t>(how.mask) % 16 != 0 || !is_device_memory(how.mask, mask_bytes)))
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

// A vector as long as the rows of D, or for the sums of B as its columns.
Operand Matmul::bias(int64_t length) const {
  const cudaDataType_t type = description.bias_type < 0 ? d.type : static_cast<cudaDataType_t>(description.bias_type);
  return {description.bias, type, length, 1, length};
}

template <class T>
void Matmul::run(T alpha, T beta) const {
  Matrix<T> result = product<T>(a, transposes_a(), b, transposes_b());
  result *= alpha;
  if (beta != 0) result += beta * load<T>(c);
  if (has(bias_bit)) result.colwise() += load<T>(bias(d.rows)).col(0);
  auto* const bits = static_cast<uint8_t*>(description.mask);
  for (int64_t column = 0; column < d.columns; ++column)
    for (int64_t row = 0; row < d.rows; ++row) {
      T& value = result(row, column);
      const int64_t at = column * description.mask_leading + row;
      const auto bit = static_cast<uint8_t>(1 << (at & 7));
      if (has(relu_bit) && has(mask_bit))
        bits[at / 8] = static_cast<uint8_t>(value > 0 ? bits[at / 8] | bit : bits[at / 8] & ~bit);
      if (has(relu_bit) && !(value > 0)) value = 0;
      if (has(relu_backward_bit) && !(bits[at / 8] & bit)) value = 0;
    }
  if (has(bias_grad_bit)) store<T>(result.rowwise().sum(), bias(d.rows));
  if (has(sum_a_bit)) store<T>(sums<T>(a, transposes_a()), bias(d.rows));
  if (has(sum_b_bit)) store<T>(sums<T>(b, !transposes_b()), bias(d.columns));
  store(result, d);
}

template void Matmul::run(float, float) const;
template void Matmul::run(double, double) const;

}  // namespace xent::emulator
