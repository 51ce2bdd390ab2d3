// Kernels in plain CUDA C++, one for each way in which the threads of a GPU work together. nvcc takes this file too.
#pragma once

#include <xent/cuda/device.cuh>

namespace kernels {

// A loop over the grid: each thread takes every n-th element.
__global__ void scale_and_add(float a, const float* x, float* y, long long count) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
    y[i] = a * x[i] + y[i];
}

// Shuffles: every lane ends up with the sum over its warp.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// Shuffles, shared memory and __syncthreads within a block; between blocks, the last to finish adds up what all have
// left behind, in the order of the blocks. One launch, no floating-point atomic, the same bits in any order.
template <int threads>
__global__ void __launch_bounds__(threads)
    sum(const float* x, long long count, float* partial, unsigned* ticket, float* result) {
  XENT_SHARED(float, of_warp, threads / 32);
  XENT_SHARED(bool, is_last, 1);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float value = 0;
  for (long long i = static_cast<long long>(blockIdx.x) * threads + threadIdx.x; i < count;
       i += static_cast<long long>(gridDim.x) * threads)
    value += x[i];
  value = warp_sum(value);
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    float block_sum = 0;
    for (int w = 0; w < threads / 32; ++w) block_sum += of_warp[w];
    partial[blockIdx.x] = block_sum;
    __threadfence();
    is_last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last[0] || threadIdx.x > 0) return;
  __threadfence();
  float total = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) total += partial[block];
  *result = total;
  // For the next launch, or the next replay. Atomic too: the fence comes before the other blocks' atomics, not after.
  atomicExch(ticket, 0u);
}

// A tile in shared memory: read along rows, written along columns, both coalesced.
constexpr int tile = 32, tile_rows = 8;
__global__ void __launch_bounds__(tile* tile_rows) transpose(const float* in, float* out, int rows, int columns) {
  using Row = float[tile + 1];  // one more, against bank conflicts
  XENT_SHARED(Row, values, tile);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int left = static_cast<int>(blockIdx.x) * tile, top = static_cast<int>(blockIdx.y) * tile;
  for (int r = y; r < tile; r += tile_rows)
    if (top + r < rows && left + x < columns) values[r][x] = in[static_cast<long long>(top + r) * columns + left + x];
  __syncthreads();
  for (int c = y; c < tile; c += tile_rows)
    if (left + c < columns && top + x < rows) out[static_cast<long long>(left + c) * rows + top + x] = values[x][c];
}

// __syncwarp with masks: groups of eight lanes reverse their values through shared memory, group k doing so k times
// over; groups with nothing to do have left for the next barrier.
__global__ void __launch_bounds__(64) reverse_in_groups(const int* in, int* out) {
  XENT_SHARED(int, values, 64);
  const int thread = static_cast<int>(threadIdx.x), group = thread % 32 / 8;
  const unsigned mask = 0xffu << (8 * group);
  int value = in[thread];
  for (int turn = 0; turn < group; ++turn) {
    values[thread] = value;
    __syncwarp(mask);
    value = values[thread ^ 7];
    __syncwarp(mask);
  }
  __syncthreads();  // after which all groups go on
  out[thread] = value;
}

// Dynamic shared memory: one row per block. Blocks of any size; rows longer than a block.
template <class T>
__global__ void softmax(const T* logits, T* probabilities, int classes) {
  XENT_DYNAMIC_SHARED(float, row);  // [classes], then one number per warp
  float* const of_warp = row + classes;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const T* const x = logits + static_cast<long long>(blockIdx.x) * classes;
  T* const p = probabilities + static_cast<long long>(blockIdx.x) * classes;
  float most = -INFINITY;
  for (int c = static_cast<int>(threadIdx.x); c < classes; c += static_cast<int>(blockDim.x)) {
    row[c] = static_cast<float>(x[c]);
    most = fmaxf(most, row[c]);
  }
  for (int distance = 16; distance > 0; distance /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, distance));
  if (lane == 0) of_warp[warp] = most;
  __syncthreads();
  for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) most = fmaxf(most, of_warp[w]);
  __syncthreads();  // of_warp is written again
  float sum = 0;
  for (int c = static_cast<int>(threadIdx.x); c < classes; c += static_cast<int>(blockDim.x)) {
    row[c] = expf(row[c] - most);
    sum += row[c];
  }
  sum = warp_sum(sum);
  if (lane == 0) of_warp[warp] = sum;
  __syncthreads();
  sum = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) sum += of_warp[w];
  for (int c = static_cast<int>(threadIdx.x); c < classes; c += static_cast<int>(blockDim.x))
    p[c] = static_cast<T>(row[c] / sum);
}

// Votes and an atomic: keeps the positive numbers; a warp takes room for all of its own at once.
__global__ void __launch_bounds__(128) keep_positive(const int* in, int count, int* out, int* kept) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), lane = static_cast<int>(threadIdx.x) % 32;
  const bool keep = i < count && in[i] > 0;
  const unsigned keepers = __ballot_sync(0xffffffffu, keep);
  int first = 0;
  if (lane == 0) first = atomicAdd(kept, __popc(keepers));
  first = __shfl_sync(0xffffffffu, first, 0);
  if (keep) out[first + __popc(keepers & ((1u << lane) - 1))] = in[i];
}

// Shuffles upward: running sums along a warp; in a block of fewer than 32 threads too.
__global__ void running_sums(const int* in, int* out) {
  int value = in[threadIdx.x];
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, value, distance);
    if (threadIdx.x % 32 >= distance) value += other;
  }
  out[threadIdx.x] = value;
}

}  // namespace kernels
