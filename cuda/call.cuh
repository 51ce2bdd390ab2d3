// What a file of kernels starts from: the call, and start(), which launches a kernel on its stream.
//
//   template <class T>
//   __global__ void doubled(const T* x, T* y, int64_t count) {
//     for (int64_t i = first_index(); i < count; i += grid_stride()) y[i] = 2 * x[i];
//   }
//
//   void cuda::doubled(const Call& call) {
//     const Slice& x = call.in[0];
//     dispatch_compute(x.dtype, [&]<class T>() {
//       start(call, "doubled", {blocks_for(x.shape.elements()), threads_per_block}, kernels::doubled<T>, x.as<T>(),
//             call.out[0].as<T>(), x.shape.elements());
//     });
//   }
#pragma once

#include <cstdint>
#include <utility>

#include <xent/core/dispatch.h>
#include <xent/core/op.h>
#include <xent/cuda/check.h>
#include <xent/cuda/device.cuh>
#include <xent/cuda/error_record.h>
#include <xent/cuda/kernels.h>

namespace xent::cuda {

inline constexpr unsigned threads_per_block = 256;

struct Grid {
  dim3 blocks;
  dim3 threads = threads_per_block;
  size_t shared_bytes = 0;           // dynamic shared memory
  unsigned max_threads = 1024;       // what the kernel's __launch_bounds__ says
};

inline cudaStream_t stream_of(const Call& call) { return static_cast<cudaStream_t>(call.stream.handle); }

// The record that label checks write and that kernels which update state read first: while it is set, they do nothing.
inline ErrorRecord* errors_of(const Call& call) { return static_cast<ErrorRecord*>(call.stream.errors); }

// Blocks for a loop with grid_stride() over count elements: enough to fill any GPU, and 0 for none.
inline unsigned blocks_for(int64_t count, unsigned threads = threads_per_block) {
  constexpr int64_t most = 4096;
  const int64_t blocks = count / threads + (count % threads != 0);
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

// Launches a kernel on the call's stream. A grid without blocks starts nothing.
template <class... Parameters, class... Arguments>
void start(const Call& call, const char* name, const Grid& grid, void (*kernel)(Parameters...),
           Arguments&&... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  check(launch({name, grid.blocks, grid.threads, grid.shared_bytes, stream_of(call), grid.max_threads}, kernel,
               std::forward<Arguments>(arguments)...),
        name);
}

// The loop of a kernel with one dimension: from first_index() in steps of grid_stride(), both in 64 bits.
__device__ inline int64_t first_index() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t grid_stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace xent::cuda
