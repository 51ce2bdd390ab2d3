// cudaMemcpy and cudaMemset. A copy from or to pageable host memory is done when the call returns, as on a GPU; one
// from or to pinned memory waits in the queue, so memory that is used again too early is seen.
#include <cuda_runtime.h>

#include <cstring>

#include "memory.h"
#include "site.h"
#include "stream.h"

using namespace xent::emulator;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const DeviceLock lock;
  if (bytes == 0) return cudaSuccess;
  const bool to_device = is_device_memory(to, bytes), from_device = is_device_memory(from, bytes);
  if (kind == cudaMemcpyDefault)
    kind = from_device ? (to_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                       : (to_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  if (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
      from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice))
    return remember(cudaErrorInvalidValue);
  const bool pageable =
      (!to_device && !is_pinned_memory(to, bytes)) || (!from_device && !is_pinned_memory(from, bytes));
  // The bytes would be read at every launch of the graph, and those of a local variable are gone by then.
  if (pageable && find_stream(stream)->capture)
    throw KernelError("cudaMemcpyAsync: a graph that copies from or to pageable host memory; use pinned memory");
  const cudaError_t error = enqueue(stream, [=] { std::memmove(to, from, bytes); });
  if (pageable && error == cudaSuccess) drain(stream);
  return error;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const DeviceLock lock;
  if (forbidden_in_capture()) return remember(cudaErrorStreamCaptureImplicit);
  drain_all();
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  if (error == cudaSuccess) drain(nullptr);
  return error;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const DeviceLock lock;
  if (bytes == 0) return cudaSuccess;
  if (!is_device_memory(to, bytes)) return remember(cudaErrorInvalidValue);
  return enqueue(stream, [=] { std::memset(to, value, bytes); });
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  const DeviceLock lock;
  return enqueue(stream, [=] { function(data); });
}

}  // extern "C"
