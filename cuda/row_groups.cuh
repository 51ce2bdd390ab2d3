// Who works on a row: one thread, where neighbours are in neighbouring rows (classes on an axis that is not the last),
// a warp, or a block where a row is long. The same loop serves all:
//
//   for (int c = group.first(); c < classes; c += group.stride) sum += x[start + c * inner];
//   sum = group.sum(sum);
//
// All threads of a group get the same result. Groups come with the number of the row they begin with.
#pragma once

#include <algorithm>

#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/loss_math.cuh>

namespace xent::cuda {

constexpr int group_threads = 256;

struct ThreadGroup {
  static constexpr int stride = 1, rows_per_block = group_threads;
  explicit __device__ ThreadGroup(double*) {}

  __device__ int row() const { return static_cast<int>(threadIdx.x); }
  __device__ int first() const { return 0; }
  __device__ void sync() const {}
  __device__ double sum(double value) const { return value; }
  template <class W>
  __device__ RowSum<W, double> sum(RowSum<W, double> value) const {
    return value;
  }
};

struct WarpGroup {
  static constexpr int stride = 32, rows_per_block = group_threads / 32;
  explicit __device__ WarpGroup(double*) {}

  __device__ int row() const { return static_cast<int>(threadIdx.x) / 32; }
  __device__ int first() const { return static_cast<int>(threadIdx.x) % 32; }
  __device__ void sync() const { __syncwarp(); }  // what was read may be overwritten
  __device__ double sum(double value) const { return warp_sum(value); }
  template <class W>
  __device__ RowSum<W, double> sum(RowSum<W, double> value) const {
    return merged<32>(value);
  }
};

struct BlockGroup {
  static constexpr int stride = group_threads, rows_per_block = 1, warps = group_threads / 32;
  double* shared;
  explicit __device__ BlockGroup(double* two_per_warp) : shared(two_per_warp) {}

  __device__ int row() const { return 0; }
  __device__ int first() const { return static_cast<int>(threadIdx.x); }
  __device__ void sync() const { __syncthreads(); }
  __device__ double sum(double value) const { return block_sum<group_threads>(value); }
  template <class W>
  __device__ RowSum<W, double> sum(RowSum<W, double> value) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    value = merged<32>(value);
    if (lane == 0) shared[warp] = static_cast<double>(value.max), shared[warps + warp] = value.rest;
    __syncthreads();
    value = {};
    if (lane < warps) value = {static_cast<W>(shared[lane]), shared[warps + lane]};
    __syncthreads();  // shared may be written again
    return merged<32>(value);
  }
};

// The statistics of a row, however long: up to 64 logits in the type of the arithmetic, and their sums in f64.
template <class T, class Group>
__device__ RowPair<Wide<T>> pair_of(const T* x, int classes, int64_t inner, const Group& group) {
  using W = Wide<T>;
  RowSum<W, double> sum;
  constexpr int at_once = 64 * Group::stride;
  for (int first = group.first(); first < classes; first += at_once) {
    RowSum<W> part;
    for (int c = first; c < classes && c < first + at_once; c += Group::stride) part.add(widened(x[c * inner]));
    sum.add(part);
  }
  sum = group.sum(sum);
  return {sum.max, sum.log_sum()};
}

// Calls start_kernel<Group>(grid) with the group that suits rows of so many elements, so far apart.
template <class F>
void with_group(int64_t rows, int64_t classes, int64_t inner, int64_t most_blocks, F&& start_kernel) {
  const auto go = [&]<class Group>() {
    const int64_t blocks = (rows + Group::rows_per_block - 1) / Group::rows_per_block;
    start_kernel.template operator()<Group>(Grid{.blocks = static_cast<unsigned>(std::min(blocks, most_blocks)),
                                                 .threads = group_threads,
                                                 .max_threads = group_threads});
  };
  if (inner > 1) go.template operator()<ThreadGroup>();
  else if (classes <= 1024) go.template operator()<WarpGroup>();
  else go.template operator()<BlockGroup>();
}

}  // namespace xent::cuda
