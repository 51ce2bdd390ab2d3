// A block is summed over k in slabs of a fixed size, small enough for Eigen to pack both operands on the stack: no
// allocation.
#include <algorithm>

#include <Eigen/Core>

#include <xent/ops/cpu/gemm_block.h>

namespace xent::cpu {

namespace {

template <class T>
using Matrix =
    Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;
template <class T>
using MutableMatrix =
    Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

template <class T>
constexpr int64_t slab = 1024 / sizeof(T);  // of k: 128 columns of it are 128 KiB, Eigen's limit for the stack

}  // namespace

template <class T>
void multiply_block_eigen(const GemmShape& shape, const GemmBlock& block, const T* a, const T* b, float beta, T* c) {
  const auto [row, rows, column, columns] = block;
  MutableMatrix<T> out(c + row * shape.n + column, rows, columns, Eigen::OuterStride<>(shape.n));
  if (shape.k == 0 && beta == 0) out.setZero();
  for (int64_t from = 0; from < shape.k; from += slab<T>) {
    const int64_t depth = std::min(slab<T>, shape.k - from);
    const bool add = beta != 0 || from > 0;
    const auto multiply = [&](const auto& left, const auto& right) {
      if (add) out.noalias() += left * right;
      else out.noalias() = left * right;
    };
    const auto with_left = [&](const auto& left) {
      if (shape.transpose_b)
        multiply(left, Matrix<T>(b + block.column * shape.k + from, block.columns, depth, Eigen::OuterStride<>(shape.k))
                           .transpose());
      else
        multiply(left,
                 Matrix<T>(b + from * shape.n + block.column, depth, block.columns, Eigen::OuterStride<>(shape.n)));
    };
    if (shape.transpose_a)
      with_left(Matrix<T>(a + from * shape.m + row, depth, rows, Eigen::OuterStride<>(shape.m)).transpose());
    else with_left(Matrix<T>(a + row * shape.k + from, rows, depth, Eigen::OuterStride<>(shape.k)));
  }
}

template void multiply_block_eigen<float>(const GemmShape&, const GemmBlock&, const float*, const float*, float,
                                          float*);
template void multiply_block_eigen<double>(const GemmShape&, const GemmBlock&, const double*, const double*, float,
                                           double*);

}  // namespace xent::cpu
