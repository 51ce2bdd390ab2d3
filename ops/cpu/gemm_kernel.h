// The inner kernel of gemm: a few rows of A times a packed panel of B, sums held in vector registers.
//
// One template in the compiler's vector types, compiled once per instruction set (gemm_avx2.cpp, gemm_avx512.cpp). An
// element of C is summed over k in order, whatever tile it falls into, so its bits do not depend on
// how C is cut.
#pragma once

#include <cstdint>

namespace xent::cpu {

template <class T>
struct GemmKernel {
  int64_t width;  // columns of a full panel; a panel of at most half of that is packed half as wide

  // C[rows, columns] = A B, or += if add. A's element (i, k) is a[i * a_row + k * a_depth]; B is packed [depth, width],
  // or [depth, width / 2] if columns <= width / 2, padded with zeros; C's rows are ldc apart.
  void (*multiply)(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth, const T* b,
                   bool add, T* c, int64_t ldc);
};

namespace avx2 {
extern const GemmKernel<float> gemm_f32;
extern const GemmKernel<double> gemm_f64;
}  // namespace avx2
namespace avx512 {
extern const GemmKernel<float> gemm_f32;
extern const GemmKernel<double> gemm_f64;
}  // namespace avx512

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <class T, int lanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(lanes * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <class T, int lanes, int vectors, int rows>
void multiply_tile(int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth, const T* b, bool add,
                   T* c, int64_t ldc) {
  using Vector = typename VectorOf<T, lanes>::type;
  constexpr int width = lanes * vectors;
  Vector sum[rows][vectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) right[v] = *reinterpret_cast<const Vector*>(b + k * width + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const T left = a[r * a_row + k * a_depth];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] += left * right[v];
    }
  }
  if (columns == width) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        Vector* out = reinterpret_cast<Vector*>(c + r * ldc + v * lanes);
        *out = add ? *out + sum[r][v] : sum[r][v];
      }
    return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {  // the last panel: through the stack, so that nothing beyond its columns is touched
    T line[width];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) *reinterpret_cast<Vector*>(line + v * lanes) = sum[r][v];
    for (int64_t i = 0; i < columns; ++i) c[r * ldc + i] = add ? c[r * ldc + i] + line[i] : line[i];
  }
}

template <class T, int lanes, int vectors, int tile_rows>
void multiply_panel(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth,
                    const T* b, bool add, T* c, int64_t ldc) {
  int64_t row = 0;
  for (; row + tile_rows <= rows; row += tile_rows)
    multiply_tile<T, lanes, vectors, tile_rows>(columns, depth, a + row * a_row, a_row, a_depth, b, add, c + row * ldc,
                                                ldc);
  for (; row + 4 <= rows; row += 4)
    multiply_tile<T, lanes, vectors, 4>(columns, depth, a + row * a_row, a_row, a_depth, b, add, c + row * ldc, ldc);
  for (; row < rows; ++row)
    multiply_tile<T, lanes, vectors, 1>(columns, depth, a + row * a_row, a_row, a_depth, b, add, c + row * ldc, ldc);
}

template <class T, int lanes, int tile_rows>
void multiply(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth, const T* b,
              bool add, T* c, int64_t ldc) {
  if (columns <= lanes) multiply_panel<T, lanes, 1, tile_rows>(rows, columns, depth, a, a_row, a_depth, b, add, c, ldc);
  else multiply_panel<T, lanes, 2, tile_rows>(rows, columns, depth, a, a_row, a_depth, b, add, c, ldc);
}

// The kernel for vectors of so many bytes and tiles of so many rows: as many sums as leave room for B and A.
template <class T, int bytes, int tile_rows>
constexpr GemmKernel<T> gemm_kernel = {2 * bytes / sizeof(T),
                                       multiply<T, bytes / static_cast<int>(sizeof(T)), tile_rows>};

}  // namespace

}  // namespace xent::cpu
