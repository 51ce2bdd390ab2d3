// The table of the direct convolution's inner kernels, one per instruction set: cpu/direct_convolution.h says what they
// are for, and cpu/direct_tiles.h how they compute.
#pragma once

#include <cstdint>

#include <xent/ops/cpu/gemm_kernel.h>

namespace xent::cpu {

// The elements of an image that one output pixel reads: runs of neighbours, [rows, columns, run], the last of which the
// weight has as its rows. For taps next to each other a row of the kernel is one run.
struct DirectTaps {
  int64_t rows, columns, run;
  int64_t row_step, column_step;  // elements from one to the next
};

// Lines of so many pixels, in two images at once: elements from a pixel to the next, and from a line to the next.
template <class T>
struct DirectLines {
  int64_t lines, pixels;
  int64_t a_pixel, a_line, b_pixel, b_line;
  const T *next = nullptr, *next_too = nullptr;  // as many pixels, b_pixel apart, that are fetched meanwhile; or null
};

template <class T>
struct DirectKernel {
  // C[pixels, columns] = what pixels, that many elements apart, read from a * a panel of the weight.
  void (*multiply)(int64_t pixels, int64_t columns, const DirectTaps& taps, const T* a, int64_t a_pixel, const T* panel,
                   const GemmOut<T>& out);

  // C[rows of the weight, columns] = the sum over pixels of what each reads from a, times the pixel of b. Of b whole
  // vectors are read, and so up to a panel's width beyond the last pixel.
  void (*multiply_pixels)(int64_t columns, const DirectTaps& taps, const DirectLines<T>& over, const T* a, const T* b,
                          const GemmOut<T>& out);

  // sums[columns] += the pixels of b, which are `columns` apart; reads, and adds to sums, whole vectors as above.
  void (*sum)(int64_t pixels, int64_t columns, const T* b, double* sums);
};

namespace avx2 {
extern const DirectKernel<float> direct_f32;
extern const DirectKernel<double> direct_f64;
}  // namespace avx2
namespace avx512 {
extern const DirectKernel<float> direct_f32;
extern const DirectKernel<double> direct_f64;
}  // namespace avx512

}  // namespace xent::cpu
