// im2col:  columns[p, (k, l, c)] = x[n, i s - p + k d, j s - p + l d, c]   of the output pixel p = (n, i, j); 0 outside
// col2im:  dx[n, y, x, c] = sum of columns[p, (k, l, c)] over the p, k, l that read it
//
// Columns are one write of kernel height x kernel width times the images; a convolution is then one product. Threads
// that are neighbours write neighbours. A thread of im2col keeps its place in the patch and goes from pixel to pixel,
// so it finds out its (k, l, c) once. col2im gathers, a thread per element of dx: no two write to one place, and the
// order of each sum is that of k and l.
#pragma once

#include <algorithm>
#include <cstdint>

#include <xent/cuda/convolution.cuh>

namespace xent::cuda {

namespace kernels {

// The patches of the pixels [first, first + count), [count, depth].
template <class T>
__global__ void __launch_bounds__(256) im2col(Convolution c, int64_t first, int64_t count, const T* x, T* columns) {
  const int64_t depth = c.depth(), at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= depth) return;
  const auto [tap, channel] = c.by_in.of(at);
  const auto [k, l] = c.by_kernel_width.of(tap);
  const int64_t below = k * c.dilation.height - c.padding.height;
  const int64_t right = l * c.dilation.width - c.padding.width;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  for (int64_t p = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; p < count; p += step) {
    const auto [row, j] = c.by_out_width.of(first + p);
    const auto [image, i] = c.by_out_height.of(row);
    const int64_t from_row = i * c.stride.height + below, from_column = j * c.stride.width + right;
    const bool inside = from_row >= 0 && from_row < c.height && from_column >= 0 && from_column < c.width;
    columns[p * depth + at] =
        inside ? x[((image * c.height + from_row) * c.width + from_column) * c.in + channel] : T(0);
  }
}

// Which output row, or column, reads this place, counted from the first that its element of the kernel ever reads; -1
// if none does.
__device__ inline int64_t reader(int64_t place, const Divisor& stride, int64_t outputs) {
  if (place < 0) return -1;
  const auto [output, between] = stride.of(place);
  return between == 0 && output < outputs ? output : -1;
}

// dx = beta dx + what the pixels [first, first + count) bring, of images from first_image on; elements of them.
template <class T>
__global__ void __launch_bounds__(256) col2im(Convolution c, int64_t first, int64_t count, const T* columns,
                                              int64_t first_image, int64_t elements, float beta, T* dx) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto [pixel, channel] = c.by_in.of(at);
    const auto [line, column] = c.by_width.of(pixel);
    const auto [number, row] = c.by_height.of(line);
    const int64_t image = first_image + number;
    T sum = 0;
    for (int64_t k = 0; k < c.kernel_height; ++k) {
      const int64_t i = reader(row + c.padding.height - k * c.dilation.height, c.by_stride_height, c.out_height);
      if (i < 0) continue;
      for (int64_t l = 0; l < c.kernel_width; ++l) {
        const int64_t j = reader(column + c.padding.width - l * c.dilation.width, c.by_stride_width, c.out_width);
        const int64_t p = (image * c.out_height + i) * c.out_width + j - first;
        if (j < 0 || p < 0 || p >= count) continue;
        sum += columns[(p * c.kernel_height * c.kernel_width + k * c.kernel_width + l) * c.in + channel];
      }
    }
    dx[at] = beta == 0 ? sum : dx[at] + sum;
  }
}

}  // namespace kernels

template <class T>
void im2col(const Call& call, const Convolution& c, int64_t first, int64_t count, const T* x, T* columns) {
  constexpr int64_t threads = 256, most_blocks = 4096;
  const int64_t groups = (c.depth() - 1) / threads + 1, width = (c.depth() - 1) / groups + 1;  // few threads idle
  const int64_t height = threads / width, blocks = std::min((count - 1) / height + 1, most_blocks);
  start(call, "im2col",
        {dim3(static_cast<unsigned>(groups), static_cast<unsigned>(blocks)),
         dim3(static_cast<unsigned>(width), static_cast<unsigned>(height)), 0, threads},
        kernels::im2col<T>, c, first, count, x, columns);
}

template <class T>
void col2im(const Call& call, const Convolution& c, int64_t first, int64_t count, const T* columns, int64_t first_image,
            int64_t images, float beta, T* dx) {
  const int64_t image = c.height * c.width * c.in;
  start(call, "col2im", {blocks_for(images * image), threads_per_block, 0, threads_per_block}, kernels::col2im<T>, c,
        first, count, columns, first_image, images * image, beta, dx + first_image * image);
}

}  // namespace xent::cuda
