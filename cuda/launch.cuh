// launch: starts a kernel on a stream. nvcc and the host's compiler both take it, where <<<>>> is nvcc's alone.
//
//   launch({"relu", blocks, 256, 0, stream}, relu<float>, x, y, count);
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace xent::cuda {

struct Launch {
  const char* kernel;  // its name, for messages
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic shared memory
  cudaStream_t stream = nullptr;
  unsigned max_threads = 1024;  // what the kernel's __launch_bounds__ says
};

}  // namespace xent::cuda

#if defined(__CUDACC__)

namespace xent::cuda {

template <class... Parameters, class... Arguments>
cudaError_t launch(const Launch& launch, void (*kernel)(Parameters...), Arguments&&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = launch.grid;
  config.blockDim = launch.block;
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = launch.stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...);
}

}  // namespace xent::cuda

#else

#include <xent/cuda/emulator/launch.h>

namespace xent::cuda {
using emulator::launch;
}

#endif
