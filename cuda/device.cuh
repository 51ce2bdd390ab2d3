// The one include of a file with device code. nvcc compiles that file for the GPU; the host's compiler takes the same
// source, and the emulator's threads run it: docs/emulator.md.
//
//   __global__ void __launch_bounds__(256) row_sums(const float* x, float* sums, int columns) {
//     XENT_SHARED(float, partial, 256);          // float partial[256], one for the block
//     XENT_DYNAMIC_SHARED(float, buffer);        // as much as the launch says
//     ...
#pragma once

#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#if defined(__CUDACC__)

#define XENT_SHARED(T, name, count) __shared__ T name[count]
// One symbol for all kernels: a template's own would be declared once per type.
#define XENT_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char xent_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(xent_dynamic_shared)

#else

#include <xent/cuda/emulator/device.h>

#endif

#include <xent/cuda/launch.cuh>
