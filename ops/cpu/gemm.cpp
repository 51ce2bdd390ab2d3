// The blocks of C are the unit of parallel work, and each is summed in an order that depends on the shape only: the
// bits are the same for any number of threads.
#include <xent/ops/cpu/gemm.h>

#include <algorithm>
#include <array>
#include <type_traits>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/gemm_block.h>
#include <xent/ops/cpu/gemm_kernel.h>
#include <xent/ops/cpu/instruction_set.h>

namespace xent::cpu {

namespace {

constexpr int64_t slab = 200;  // of k: with the widest panel 25 KiB

// Rows and columns per block.
struct BlockExtents {
  int64_t rows, columns;
};

// 64 x 128; more rows where that would be less work than starting a chunk is worth, and fewer columns where a large
// product would be so few blocks that threads wait for the last.
BlockExtents block_extents(const GemmShape& shape) {
  constexpr int64_t worth = 1 << 19;  // multiplications, some 10 us
  constexpr int64_t enough = 4, most_columns = 128, least_columns = 32;
  const auto work = [&](int64_t rows, int64_t columns) {
    return static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(shape.k);
  };
  const int64_t per_row = std::max<int64_t>(1, std::min(shape.n, most_columns) * std::max<int64_t>(shape.k, 1));
  const int64_t rows = (worth / per_row + 64) / 64 * 64, row_blocks = (shape.m + rows - 1) / rows;
  int64_t columns = most_columns;
  while (columns > least_columns && row_blocks * ((shape.n + columns - 1) / columns) < enough &&
         work(std::min(rows, shape.m), columns / 2) >= static_cast<double>(worth))
    columns /= 2;
  return {rows, columns};
}

// The kernel for this machine; null where Eigen computes.
template <class T>
const GemmKernel<T>* kernel() {
#if defined(XENT_WIDE_KERNELS)
  constexpr bool single = std::is_same_v<T, float>;
  if (instruction_set() == InstructionSet::avx512) {
    if constexpr (single) return &avx512::gemm_f32;
    else return &avx512::gemm_f64;
  }
  if (instruction_set() == InstructionSet::avx2) {
    if constexpr (single) return &avx2::gemm_f32;
    else return &avx2::gemm_f64;
  }
#endif
  return nullptr;
}

// The panels of op(B) that a block of C takes, slab after slab of k.
template <class T>
struct Panels {
  const GemmShape& shape;
  const GemmBlock& block;
  const T* b;
  int64_t width;

  int64_t slabs = (shape.k + slab - 1) / slab, across = (block.columns + width - 1) / width;
  int64_t even_depth = (shape.k + slabs - 1) / slabs;

  int64_t from(int64_t p) const { return p / across * even_depth; }
  int64_t column(int64_t p) const { return block.column + p % across * width; }
  int64_t depth(int64_t p) const { return std::min(even_depth, shape.k - from(p)); }
  int64_t columns(int64_t p) const { return std::min(width, block.column + block.columns - column(p)); }
  bool alike(int64_t p, int64_t q) const { return depth(p) == depth(q) && columns(p) == columns(q); }

  const T* start(int64_t p) const {
    return shape.transpose_b ? b + column(p) * shape.k + from(p) : b + from(p) * shape.n + column(p);
  }
  PanelOfB<T> operator[](int64_t p) const {
    const bool more = p + 1 < slabs * across && alike(p, p + 1);
    return {start(p),          shape.transpose_b ? shape.k : shape.n, depth(p), columns(p),
            shape.transpose_b, more ? start(p + 1) : nullptr};
  }
};

// Asks for where a panel's product will be written. Rows of a wide C are on pages of their own, and the processor would
// wait for each as it comes to it.
template <class T>
void prefetch_result(const GemmShape& shape, int64_t rows, int64_t columns, const T* c) {
  constexpr int64_t wide = 4096 / sizeof(T), line = 64 / sizeof(T);
  for (int64_t r = 0; r < rows && shape.n >= wide; ++r)
    for (int64_t i = 0; i < columns; i += line) __builtin_prefetch(c + r * shape.n + i, 1, 3);
}

// Panels are packed one after the other on the stack: no allocation. Bias and relu are applied as the last slab's sums
// leave the registers.
template <class T>
void multiply_block(const GemmKernel<T>& kernel, const GemmShape& shape, const GemmBlock& block, const T* a, const T* b,
                    float beta, T* c, const Epilogue<T>& epilogue) {
  alignas(64) std::array<T, slab * 128 / sizeof(T)> packed;  // 128 bytes: two of the widest vectors
  const int64_t a_row = shape.transpose_a ? 1 : shape.k, a_depth = shape.transpose_a ? shape.m : 1;
  const Panels<T> panels{shape, block, b, kernel.width};
  for (int64_t p = 0; p < panels.slabs * panels.across; ++p) {
    const int64_t from = panels.from(p), column = panels.column(p), depth = panels.depth(p);
    const bool last = from + depth == shape.k;
    kernel.pack(panels[p], packed.data());
    if (from == 0) prefetch_result(shape, block.rows, panels.columns(p), c + block.row * shape.n + column);
    kernel.multiply(block.rows, panels.columns(p), depth, a + block.row * a_row + from * a_depth, a_row, a_depth,
                    packed.data(), kernel.packed_width(panels.columns(p)),
                    {.c = c + block.row * shape.n + column,
                     .stride = shape.n,
                     .add = beta != 0 || from > 0,
                     .bias = last && epilogue.bias ? epilogue.bias + column : nullptr,
                     .relu = last && epilogue.activation == Activation::relu});
  }
}

template <class T>
void finish_block(const GemmShape& shape, const GemmBlock& block, const Epilogue<T>& epilogue, T* c) {
  if (!epilogue.bias && epilogue.activation == Activation::none) return;
  for (int64_t r = block.row; r < block.row + block.rows; ++r) {
    T* line = c + r * shape.n + block.column;
    if (epilogue.bias)
      for (int64_t i = 0; i < block.columns; ++i) line[i] += epilogue.bias[block.column + i];
    activate(epilogue.activation, line, block.columns);
  }
}

}  // namespace

template <class T>
void gemm(const GemmShape& shape, const T* a, const T* b, float beta, T* c, const Epilogue<T>& epilogue) {
  if (shape.m == 0 || shape.n == 0) return;
  const auto [rows, columns] = block_extents(shape);
  const int64_t row_blocks = (shape.m + rows - 1) / rows;
  const int64_t column_blocks = (shape.n + columns - 1) / columns;
  const GemmKernel<T>* kernel_of_this_machine = kernel<T>();
  parallel_chunks(row_blocks * column_blocks, [&, rows = rows, columns = columns](int64_t chunk) {
    const int64_t row = chunk / column_blocks * rows, column = chunk % column_blocks * columns;
    const GemmBlock block{row, std::min(rows, shape.m - row), column, std::min(columns, shape.n - column)};
    if (kernel_of_this_machine && shape.k > 0) {
      multiply_block(*kernel_of_this_machine, shape, block, a, b, beta, c, epilogue);
      if (epilogue.activation != Activation::relu) finish_block(shape, block, {nullptr, epilogue.activation}, c);
    } else {
      multiply_block_eigen(shape, block, a, b, beta, c);
      finish_block(shape, block, epilogue, c);
    }
  });
}

template void gemm<float>(const GemmShape&, const float*, const float*, float, float*, const Epilogue<float>&);
template void gemm<double>(const GemmShape&, const double*, const double*, float, double*, const Epilogue<double>&);

}  // namespace xent::cpu
