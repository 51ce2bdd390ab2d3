#include <xent/cuda/check.h>

#include <xent/core/require.h>

namespace xent::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();  // told now: the next call is not to find it
  fail<DeviceError>("{}: {}: {}", what, cudaGetErrorName(status), cudaGetErrorString(status));
}

}  // namespace xent::cuda
