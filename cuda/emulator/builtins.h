// What a kernel sees of its place in the grid, and its shared memory. NVIDIA's headers come first: where they mention
// threadIdx and the like, those must still be their own names.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace xent::emulator {

struct Coordinates {
  uint3 index = {};  // threadIdx
  unsigned linear = 0, warp = 0, lane = 0;
};

extern const Coordinates* current;  // of the thread that runs
extern uint3 block_index;
extern dim3 block_extent, grid_extent;

// A shared array of the running block: the same for every thread that asks with this key, filled with 0xff (a NaN in
// f32, f16 and bf16) when the block begins.
void* shared_array(const void* key, size_t bytes, size_t alignment);
void* dynamic_shared_array();

}  // namespace xent::emulator

#define threadIdx (::xent::emulator::current->index)
#define blockIdx (::xent::emulator::block_index)
#define blockDim (::xent::emulator::block_extent)
#define gridDim (::xent::emulator::grid_extent)
#define warpSize 32

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __forceinline__
#define __forceinline__ inline
#undef __grid_constant__
#define __grid_constant__
#undef __shared__
#define __shared__ static_assert(false, "a shared array is declared by XENT_SHARED or XENT_DYNAMIC_SHARED");

// The lambda's static is a key that every declaration, and every instantiation of a template around it, has of its own.
#define XENT_SHARED(T, name, count)                               \
  T* const name = static_cast<T*>(::xent::emulator::shared_array( \
      [] {                                                        \
        static const char key = 0;                                \
        return &key;                                              \
      }(),                                                        \
      sizeof(T) * (count), alignof(T) < 16 ? 16 : alignof(T)))
#define XENT_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::xent::emulator::dynamic_shared_array())
