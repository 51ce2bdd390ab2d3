// One block of a product, the unit of parallel work of gemm, and the portable way to compute it.
#pragma once

#include <cstdint>

#include <xent/ops/cpu/gemm.h>

namespace xent::cpu {

struct GemmBlock {
  int64_t row, rows, column, columns;  // of C
};

// C's block = op(A) op(B) + beta C through Eigen: the fallback where no kernel of ours is compiled in, and the oracle
// that they are tested against. Instantiated for float and double.
template <class T>
void multiply_block_eigen(const GemmShape& shape, const GemmBlock& block, const T* a, const T* b, float beta, T* c);

}  // namespace xent::cpu
