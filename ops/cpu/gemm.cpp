// The blocks of C are the unit of parallel work, and each is summed in an order that depends on the shape only: the
// bits are the same for any number of threads.
#include <xent/ops/cpu/gemm.h>

#include <algorithm>
#include <array>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/gemm_block.h>
#include <xent/ops/cpu/product_kernels.h>

namespace xent::cpu {

namespace {

constexpr int64_t slab = 400;  // of k: with the widest panel 50 KiB

// Rows and columns per block.
struct BlockExtents {
  int64_t rows, columns;
};

// As many columns as Eigen likes to pack, or a panel or two of ours: a transposed one is fetched while the one before
// it is multiplied, others are packed as they come. At least 64 rows, and more where a panel of them would be little
// work.
BlockExtents block_extents(const GemmShape& shape, bool eigen) {
  const int64_t panel = eigen ? 128 : 32, columns = !eigen && shape.transpose_b ? 2 * panel : panel;
  const int64_t most = eigen ? 1 << 19 : 1 << 21;  // multiplications of a panel, some 35 us with AVX-512
  const int64_t rows = std::max<int64_t>(most / std::min(shape.n, panel) / std::max<int64_t>(shape.k, 1), 64);
  const int64_t blocks = (shape.m + rows - 1) / rows;
  return {(shape.m + blocks - 1) / blocks, std::min(shape.n, columns)};
}

// The sum over k in slabs, as equal as can be.
struct Slabs {
  int64_t k, count = (k + slab - 1) / slab, most = (k + count - 1) / count;
  int64_t from(int64_t s) const { return s * most; }
  int64_t depth(int64_t s) const { return std::min(most, k - from(s)); }
};

// The panels of op(B) that a block of C takes, one after the other, each slab after slab of k.
template <class T>
struct Panels {
  const GemmShape& shape;
  const GemmBlock& block;
  const T* b;
  int64_t width;

  Slabs slabs{shape.k};
  int64_t count = (block.columns + width - 1) / width * slabs.count;

  int64_t from(int64_t p) const { return slabs.from(p % slabs.count); }
  int64_t depth(int64_t p) const { return slabs.depth(p % slabs.count); }
  int64_t column(int64_t p) const { return block.column + p / slabs.count * width; }
  int64_t columns(int64_t p) const { return std::min(width, block.column + block.columns - column(p)); }
  bool alike(int64_t p, int64_t q) const { return depth(p) == depth(q) && columns(p) == columns(q); }

  const T* start(int64_t p) const {
    return shape.transpose_b ? b + column(p) * shape.k + from(p) : b + from(p) * shape.n + column(p);
  }
  PanelOfB<T> operator[](int64_t p) const {
    const bool more = p + 1 < count && alike(p, p + 1);
    return {start(p),          shape.transpose_b ? shape.k : shape.n, depth(p), columns(p),
            shape.transpose_b, more ? start(p + 1) : nullptr};
  }
};

// Panels are packed one after the other on the stack: no allocation. Bias and relu are applied as the last slab's sums
// leave the registers.
template <class T>
void multiply_block(const GemmKernel<T>& kernel, const GemmShape& shape, const GemmBlock& block, const T* a, const T* b,
                    float beta, T* c, const Epilogue<T>& epilogue) {
  alignas(64) std::array<T, slab * 128 / sizeof(T)> packed;  // 128 bytes: two of the widest vectors
  const int64_t a_row = shape.transpose_a ? 1 : shape.k, a_depth = shape.transpose_a ? shape.m : 1;
  const Panels<T> panels{shape, block, b, kernel.width};
  for (int64_t p = 0; p < panels.count; ++p) {
    const PanelOfB<T> panel = panels[p];
    const int64_t from = panels.from(p), column = panels.column(p), width = kernel.packed_width(panel.columns);
    const T* left = a + block.row * a_row + from * a_depth;
    const bool last = from + panel.depth == shape.k;
    const GemmOut<T> out{.c = c + block.row * shape.n + column,
                         .stride = shape.n,
                         .add = beta != 0 || from > 0,
                         .bias = last && epilogue.bias ? epilogue.bias + column : nullptr,
                         .relu = last && epilogue.activation == Activation::relu};
    if (!panel.transpose && panel.columns == width) {
      kernel.multiply_and_pack(block.rows, left, a_row, a_depth, panel, packed.data(), out);
    } else {
      kernel.pack(panel, packed.data());
      kernel.multiply(block.rows, panel.columns, panel.depth, left, a_row, a_depth, packed.data(), width, out);
    }
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

constexpr int64_t few = 64;  // rows of C

template <class T>
constexpr int64_t room = (1 << 17) / sizeof(T);  // on the stack, for the whole of an A with few rows

// A B' means to transpose B. That the transpose of B A' means to transpose A and C, less by far if they have few rows.
template <class T>
bool transposed_is_better(const GemmShape& shape) {
  return shape.transpose_b && !shape.transpose_a && shape.m <= few && shape.k <= room<T> / few &&
         shape.m * (shape.k + shape.n) < shape.k * shape.n;
}

// Asks for a part of a matrix, to the second-level cache.
template <class T>
void fetch(const T* part, int64_t stride, int64_t rows, int64_t columns) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < columns; i += line) __builtin_prefetch(part + r * stride + i, 0, 2);
}

// Some rows of B at a time, and meanwhile what comes after them in their chunk is fetched: of the rows of C, which are
// long, the processor does not foresee what is read and written.
template <class T>
void gemm_transposed(const GemmKernel<T>& kernel, const GemmShape& shape, const T* a, const T* b, float beta, T* c,
                     const Epilogue<T>& epilogue) {
  const auto [m, n, k, transpose_a, transpose_b] = shape;
  alignas(64) std::array<T, room<T>> packed;
  parallel_for(m, kernel.width, [&, k = k](int64_t begin, int64_t end) {
    kernel.pack({a + begin * k, k, k, end - begin, true, nullptr}, packed.data() + begin * k);
  });
  constexpr int64_t enough_chunks = 16, group = few / 2;
  const int64_t chunk = std::max<int64_t>(1, n / (enough_chunks * few)) * few;
  parallel_for(n, chunk, [&, m = m, n = n, k = k](int64_t begin, int64_t end) {
    alignas(64) std::array<T, few * few> product;
    const Slabs slabs{k};
    for (int64_t row = begin; row < end; row += group) {
      const int64_t rows = std::min(group, end - row), at = (row - begin) % few;
      fetch(c + row, n, m, rows);
      if (row + few < end) fetch(b + (row + few) * k, k, std::min(group, end - row - few), k);
      for (int64_t s = 0; s < slabs.count; ++s)
        for (int64_t i = 0; i < m; i += kernel.width) {
          const int64_t from = slabs.from(s), columns = std::min(kernel.width, m - i);
          const int64_t width = kernel.packed_width(columns);
          kernel.multiply(
              rows, columns, slabs.depth(s), b + row * k + from, k, 1, packed.data() + i * k + from * width, width,
              {.c = product.data() + at * few + i, .stride = few, .add = s > 0, .bias = nullptr, .relu = false});
        }
      if (at + rows < few && row + rows < end) continue;
      kernel.transpose(product.data(), few, at + rows, m, c + row - at, n, beta != 0);
      finish_block(shape, {0, m, row - at, at + rows}, epilogue, c);
    }
  });
}

}  // namespace

template <class T>
void gemm(const GemmShape& shape, const T* a, const T* b, float beta, T* c, const Epilogue<T>& epilogue) {
  if (shape.m == 0 || shape.n == 0) return;
  const GemmKernel<T>* kernel = shape.k > 0 ? product_kernels<T>().gemm : nullptr;
  if (kernel && transposed_is_better<T>(shape)) return gemm_transposed(*kernel, shape, a, b, beta, c, epilogue);
  const auto [rows, columns] = block_extents(shape, !kernel);
  const int64_t row_blocks = (shape.m + rows - 1) / rows;
  const int64_t column_blocks = (shape.n + columns - 1) / columns;
  parallel_chunks(row_blocks * column_blocks, [&, rows = rows, columns = columns](int64_t chunk) {
    const int64_t row = chunk / column_blocks * rows, column = chunk % column_blocks * columns;
    const GemmBlock block{row, std::min(rows, shape.m - row), column, std::min(columns, shape.n - column)};
    if (kernel) {
      multiply_block(*kernel, shape, block, a, b, beta, c, epilogue);
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
