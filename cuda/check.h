// check: a status of CUDA as an exception. For host code; kernels' files have it through call.cuh.
#pragma once

#include <cuda_runtime.h>

namespace xent::cuda {

// Throws DeviceError with `what`, CUDA's name of what went wrong and its text, unless it went well.
//
//   check(cudaStreamSynchronize(stream), "wait");
void check(cudaError_t status, const char* what);

}  // namespace xent::cuda
