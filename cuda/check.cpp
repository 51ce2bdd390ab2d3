#include <xent/cuda/check.h>

#include <xent/core/require.h>

namespace xent::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // told now: the next call is not to find it
  const bool other_gpu = status == cudaErrorNoKernelImageForDevice;
  fail<DeviceError>("{}: {}: {}{}", what, cudaGetErrorName(status), cudaGetErrorString(status),
                    other_gpu ? "; compile it for this GPU: CMAKE_CUDA_ARCHITECTURES" : "");
}

}  // namespace xent::cuda
