// The inner kernels of the direct convolution: tiles of sums in vector registers, as gemm's (gemm_kernel.h), but for
// where the left side is read.
//
// One template in the compiler's vector types, compiled once per instruction set (direct_avx2.cpp, direct_avx512.cpp).
// Every sum is taken in one order, whatever tile it falls into.
#pragma once

#include <cstdint>
#include <utility>

#include <xent/ops/cpu/direct_kernel.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <class T, int lanes, int most>  // rows of a tile
struct DirectTiles {
  using Vector = typename VectorOf<T, lanes>::type;

  template <int vectors, int pixels>
  static void pixel_tile(int64_t columns, const DirectTaps& taps, const T* a, int64_t a_pixel, const T* panel,
                         const GemmOut<T>& out) {
    Vector sum[pixels][vectors] = {};
    for (int64_t row = 0; row < taps.rows; ++row)
      for (int64_t column = 0; column < taps.columns; ++column) {
        const T* from = a + row * taps.row_step + column * taps.column_step;
        for (int64_t k = 0; k < taps.run; ++k, ++from, panel += vectors * lanes) {
          Vector right[vectors];
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) right[v] = load<Vector>(panel + v * lanes);
#pragma GCC unroll 16
          for (int p = 0; p < pixels; ++p) {
            const T left = from[p * a_pixel];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) sum[p][v] += left * right[v];
          }
        }
      }
    write_tile<T, lanes>(sum, columns, out);
  }

  template <int vectors, int rows>
  static void weight_tile(int64_t columns, const DirectTaps& taps, const DirectLines<T>& over, int64_t first,
                          const T* a, const T* b, const GemmOut<T>& out) {
    const T* from[rows];
#pragma GCC unroll 1
    for (int r = 0; r < rows; ++r) {
      const int64_t tap = (first + r) / taps.run;
      from[r] = a + tap / taps.columns * taps.row_step + tap % taps.columns * taps.column_step + (first + r) % taps.run;
    }
    const bool fetch = first == 0 && over.next;  // if not: what is there already
    const T *next = fetch ? over.next : b, *next_too = fetch ? over.next_too : b;
    Vector sum[rows][vectors] = {};
    for (int64_t line = 0; line < over.lines; ++line) {
      for (int64_t pixel = 0; pixel < over.pixels; ++pixel, next += over.b_pixel, next_too += over.b_pixel) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          __builtin_prefetch(next + v * lanes);
          __builtin_prefetch(next_too + v * lanes);
        }
        const int64_t at = line * over.a_line + pixel * over.a_pixel;
        Vector right[vectors];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v)
          right[v] = load<Vector>(b + line * over.b_line + pixel * over.b_pixel + v * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
          const T left = from[r][at];
#pragma GCC unroll 2
          for (int v = 0; v < vectors; ++v) sum[r][v] += left * right[v];
        }
      }
    }
    write_tile<T, lanes>(sum, columns, out);
  }

  // Calls tile(first, the constant count) for tiles that are about equally high.
  template <class Tile, int... height>
  static void each_tile(int64_t rows, const Tile& tile, std::integer_sequence<int, height...>) {
    const int64_t tiles = (rows + most - 1) / most;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = t * rows / tiles, count = (t + 1) * rows / tiles - first;
      ((count == height + 1 ? tile.template operator()<height + 1>(first) : void()), ...);
    }
  }

  template <int vectors>
  static void multiply_panel(int64_t pixels, int64_t columns, const DirectTaps& taps, const T* a, int64_t a_pixel,
                             const T* panel, const GemmOut<T>& out) {
    each_tile(
        pixels,
        [&]<int count>(int64_t first) {
          GemmOut<T> to = out;
          to.c += first * out.stride;
          pixel_tile<vectors, count>(columns, taps, a + first * a_pixel, a_pixel, panel, to);
        },
        std::make_integer_sequence<int, most>());
  }
  static void multiply(int64_t pixels, int64_t columns, const DirectTaps& taps, const T* a, int64_t a_pixel,
                       const T* panel, const GemmOut<T>& out) {
    if (columns <= lanes) multiply_panel<1>(pixels, columns, taps, a, a_pixel, panel, out);
    else multiply_panel<2>(pixels, columns, taps, a, a_pixel, panel, out);
  }

  template <int vectors>
  static void multiply_pixels_of(int64_t columns, const DirectTaps& taps, const DirectLines<T>& over, const T* a,
                                 const T* b, const GemmOut<T>& out) {
    each_tile(
        taps.rows * taps.columns * taps.run,
        [&]<int count>(int64_t first) {
          GemmOut<T> to = out;
          to.c += first * out.stride;
          weight_tile<vectors, count>(columns, taps, over, first, a, b, to);
        },
        std::make_integer_sequence<int, most>());
  }
  static void multiply_pixels(int64_t columns, const DirectTaps& taps, const DirectLines<T>& over, const T* a,
                              const T* b, const GemmOut<T>& out) {
    if (columns <= lanes) multiply_pixels_of<1>(columns, taps, over, a, b, out);
    else multiply_pixels_of<2>(columns, taps, over, a, b, out);
  }

  // Four neighbours are added as they are, and then to a sum in double precision.
  static void sum(int64_t pixels, int64_t columns, const T* b, double* sums) {
    constexpr int wide = lanes * static_cast<int>(sizeof(T)) / static_cast<int>(sizeof(double));
    using Some = typename VectorOf<T, wide>::type;
    using Doubles = typename VectorOf<double, wide>::type;
    for (int64_t column = 0; column < columns; column += wide) {
      Doubles total = load<Doubles>(sums + column);
      const T* from = b + column;
      int64_t pixel = 0;
      for (; pixel + 4 <= pixels; pixel += 4, from += 4 * columns)
        total += __builtin_convertvector((load<Some>(from) + load<Some>(from + columns)) +
                                             (load<Some>(from + 2 * columns) + load<Some>(from + 3 * columns)),
                                         Doubles);
      for (; pixel < pixels; ++pixel, from += columns) total += __builtin_convertvector(load<Some>(from), Doubles);
      store(total, sums + column);
    }
  }

  static constexpr DirectKernel<T> kernel = {multiply, multiply_pixels, sum};
};

}  // namespace

}  // namespace xent::cpu
