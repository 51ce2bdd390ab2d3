// What cuBLAS and cuBLASLt have in common: matrices in device memory, stored by columns, and their product. 16-bit
// elements are computed in f32 and rounded once.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <Eigen/Core>

namespace xent::emulator {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

struct Operand {
  const void* data;
  cudaDataType_t type;
  int64_t rows, columns;  // as stored; the transpose is the call's
  int64_t leading;        // elements from one column to the next
};

// Says whether there is arithmetic for these types: the types of both factors and of the result, as cuBLAS combines
// them.
bool is_supported(cudaDataType_t factors, cudaDataType_t result);

size_t element_bytes(cudaDataType_t type);

// Throws KernelError unless all of the matrix is in device memory.
void check_operand(const Operand& operand, const char* call, const char* name);

// T is float, or double for f64.
template <class T>
Matrix<T> load(const Operand& operand);
template <class T>
void store(const Matrix<T>& values, const Operand& operand);
template <class T>
Matrix<T> product(const Operand& a, bool transpose_a, const Operand& b, bool transpose_b);

}  // namespace xent::emulator
