#include <xent/cuda/check.h>

#include <xent/core/require.h>

namespace xent::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // told now: the next call is not to find it
  const bool too_old = status == cudaErrorNoKernelImageForDevice;
  fail<DeviceError>("{}: {}: {}{}", what, cudaGetErrorName(status), cudaGetErrorString(status),
                    too_old ? "; build xent for this GPU, with -DCMAKE_CUDA_ARCHITECTURES=native" : "");
}

}  // namespace xent::cuda
