// The blocks of C are the unit of parallel work, and each is summed over k in slabs of a fixed size, so the bits depend on
// the shape only. Slab times block is small enough for Eigen to pack both operands on the stack: no allocation.
#include <xent/ops/cpu/gemm.h>

#include <algorithm>

#include <Eigen/Core>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>

namespace xent::cpu {

namespace {

template <class T>
using Matrix = Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;
template <class T>
using MutableMatrix = Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

constexpr int64_t block_columns = 128;
template <class T>
constexpr int64_t slab = 1024 / sizeof(T);  // of k: 128 columns of it are 128 KiB, Eigen's limit for the stack

// Rows per block: 64, and more where that would be less work than starting a chunk is worth.
int64_t block_rows(const GemmShape& shape) {
  constexpr int64_t worth = 1 << 19;  // floating-point operations, some 20 us
  const int64_t columns = std::min(shape.n, block_columns);
  const int64_t operations_per_row = std::max<int64_t>(1, 2 * columns * std::max<int64_t>(shape.k, 1));
  return (worth / operations_per_row + 64) / 64 * 64;
}

template <class T>
void run_block(const GemmShape& shape, const T* a, const T* b, float beta, T* c, int64_t row, int64_t rows, int64_t column,
               int64_t columns) {
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
        multiply(left, Matrix<T>(b + column * shape.k + from, columns, depth, Eigen::OuterStride<>(shape.k)).transpose());
      else
        multiply(left, Matrix<T>(b + from * shape.n + column, depth, columns, Eigen::OuterStride<>(shape.n)));
    };
    if (shape.transpose_a) with_left(Matrix<T>(a + from * shape.m + row, depth, rows, Eigen::OuterStride<>(shape.m)).transpose());
    else with_left(Matrix<T>(a + row * shape.k + from, rows, depth, Eigen::OuterStride<>(shape.k)));
  }
}

template <class T>
void finish_block(const Epilogue<T>& epilogue, T* c, int64_t n, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  if (!epilogue.bias && epilogue.activation == Activation::none) return;
  for (int64_t r = row; r < row + rows; ++r) {
    T* line = c + r * n + column;
    if (epilogue.bias)
      for (int64_t i = 0; i < columns; ++i) line[i] += epilogue.bias[column + i];
    activate(epilogue.activation, line, columns);
  }
}

}  // namespace

template <class T>
void gemm(const GemmShape& shape, const T* a, const T* b, float beta, T* c, const Epilogue<T>& epilogue) {
  if (shape.m == 0 || shape.n == 0) return;
  const int64_t rows = block_rows(shape);
  const int64_t row_blocks = (shape.m + rows - 1) / rows;
  const int64_t column_blocks = (shape.n + block_columns - 1) / block_columns;
  parallel_chunks(row_blocks * column_blocks, [&](int64_t block) {
    const int64_t row = block / column_blocks * rows;
    const int64_t column = block % column_blocks * block_columns;
    const int64_t height = std::min(rows, shape.m - row);
    const int64_t width = std::min(block_columns, shape.n - column);
    run_block(shape, a, b, beta, c, row, height, column, width);
    finish_block(epilogue, c, shape.n, row, height, column, width);
  });
}

template void gemm<float>(const GemmShape&, const float*, const float*, float, float*, const Epilogue<float>&);
template void gemm<double>(const GemmShape&, const double*, const double*, float, double*, const Epilogue<double>&);

}  // namespace xent::cpu
