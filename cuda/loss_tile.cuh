// Rows of few classes, up to 64: a block takes a tile of 128 rows, which lie one after another, through shared memory,
// 16 bytes at a time, and every thread works on a row of its own. The gradient goes back the same way.
//
// Memory: the logits once, and the gradient once. In shared memory rows are an odd number of words apart, so that the
// threads of a warp, each at the same class of its row, meet in different banks. A row has the same bits wherever in
// the tile it is.
#pragma once

#include <xent/cuda/loss_sums.cuh>
#include <xent/cuda/pack.cuh>

namespace xent::cuda {

constexpr int tile_rows = 128;

// How far apart rows are in shared memory, in elements.
template <class T>
constexpr int tile_stride(int classes) {
  if (sizeof(T) == 2) return classes + (2 - classes % 4 + 4) % 4;  // 2, 6, 10, ...
  return classes | 1;
}

namespace kernels {

// Copies a tile to or from shared memory. count: elements; aligned: does it begin at a multiple of 16 bytes?
template <bool to_shared, class T, class Memory>
__device__ void copy_tile(Memory* memory, T* shared, int count, int classes, bool aligned) {
  constexpr int size = Pack<T>::size;
  const int stride = tile_stride<T>(classes), packs = aligned ? count / size : 0;
  for (int p = static_cast<int>(threadIdx.x); p < packs; p += tile_rows) {
    Pack<T> values;
    if constexpr (to_shared) values = pack(memory, p);
    int row = p * size / classes, c = p * size - row * classes;
#pragma unroll
    for (int k = 0; k < size; ++k) {
      T& place = shared[row * stride + c];
      if constexpr (to_shared) place = values.values[k];
      else values.values[k] = place;
      if (++c == classes) c = 0, ++row;
    }
    if constexpr (!to_shared) pack(memory, p) = values;
  }
  for (int i = packs * size + static_cast<int>(threadIdx.x); i < count; i += tile_rows) {
    const int row = i / classes;
    T& place = shared[row * stride + i - row * classes];
    if constexpr (to_shared) place = memory[i];
    else memory[i] = place;
  }
}

template <class T, bool smoothed>
__global__ void __launch_bounds__(tile_rows, sizeof(T) == 8 ? 4 : 8) loss_of_tiles(LossRows<T> rows) {
  using W = Wide<T>;
  XENT_DYNAMIC_SHARED(T, tile);
  const int classes = rows.target.classes();
  const bool writes = rows.writes_grad();
  T* const x = tile + static_cast<int>(threadIdx.x) * tile_stride<T>(classes);
  double sum = 0;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * tile_rows; first < rows.target.rows();
       first += static_cast<int64_t>(gridDim.x) * tile_rows) {
    const int64_t left = rows.target.rows() - first, begin = first * classes;
    const int count = static_cast<int>(left < tile_rows ? left : tile_rows) * classes;
    const auto aligned = [](const T* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; };
    copy_tile<true>(rows.logits + begin, tile, count, classes, aligned(rows.logits + begin));
    __syncthreads();
    if (const int64_t r = first + static_cast<int>(threadIdx.x); r < rows.target.rows()) {
      const TargetRow row = rows.target.row(r);
      const int label = static_cast<int>(row.label);
      RowPair<W> pair;
      double raw = 0;
      W label_logit = 0;
      if (!row.skipped && !row.poisoned) {
        RowSum<W> exponentials;
        for (int c = 0; c < classes; ++c) exponentials.add(widened(x[c]));
        pair = {exponentials.max, exponentials.log_sum()};
        if (label >= 0) label_logit = widened(x[label]);
        W others = 0;
        if (smoothed)
          for (int c = 0; c < classes; ++c) others += c == label ? W(0) : pair.surprise(widened(x[c]));
        raw = rows.raw(row, pair, label_logit, static_cast<double>(others));
      }
      sum += rows.finish(r, row, pair, raw);
      if (writes) {
        const RowGrad<W> grad(rows.target, rows.for_grad(row), pair, label_logit, rows.upstream(row));
        for (int c = 0; c < classes; ++c) x[c] = narrowed<T>(grad(c == label, widened(x[c])));
      }
    }
    __syncthreads();
    if (!writes) continue;
    copy_tile<false>(rows.grad + begin, tile, count, classes, aligned(rows.grad + begin));
    __syncthreads();  // before the next tile comes in
  }
  finish_loss<tile_rows>(rows, sum);
}

}  // namespace kernels

}  // namespace xent::cuda
