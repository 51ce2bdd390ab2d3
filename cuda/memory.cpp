// The functions that core/memory.h asks of a device, by CUDA. Copies and fills go into the context's stream, so they
// come after what was launched before and before what is launched next.
#include <xent/core/memory.h>

#include <xent/cuda/check.h>
#include <xent/cuda/context.h>
#include <xent/cuda/graph.h>

namespace xent::cuda {

namespace {

void* allocate(int index, size_t bytes) {
  context(index);
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(status, "cudaMalloc");
  return data;
}

// Waits for the device by itself. Often called by a destructor, so it throws nothing: what goes wrong here went wrong
// in a kernel before, and whoever waits next is told.
void release(int, void* data, size_t) { cudaFree(data); }

void fill_bytes(int index, void* data, int byte, size_t bytes) {
  Context& on = context(index);
  std::scoped_lock lock(on.mutex);
  check(cudaMemsetAsync(data, byte, bytes, on.stream), "cudaMemset");
}

void copy_from_host(int index, void* to, const void* from, size_t bytes) {
  Context& on = context(index);
  std::scoped_lock lock(on.mutex);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, on.stream), "cudaMemcpy");
}

void copy_to_host(int index, void* to, const void* from, size_t bytes) {
  Context& on = context(index);
  std::scoped_lock lock(on.mutex);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, on.stream), "cudaMemcpy");
  wait(on);
}

#if defined(XENT_CUDA_EMULATED)
constexpr bool exact = true;  // every tensor is an allocation of its own, whose ends the emulator guards
#else
constexpr bool exact = false;
#endif

constexpr Memory cuda_memory = {
    .allocate = allocate,
    .release = release,
    .fill_bytes = fill_bytes,
    .copy_from_host = copy_from_host,
    .copy_to_host = copy_to_host,
    .exact = exact,
    .stream =
        [](int index) {
          const Context& on = context(index);
          return Stream{.handle = on.stream, .errors = on.errors};
        },
    .lock = [](int index) { context(index).mutex.lock(); },
    .unlock = [](int index) { known_context(index).mutex.unlock(); },
    .wait = [](int index) { check(cudaStreamSynchronize(context(index).stream), "cudaStreamSynchronize"); },
    .begin_capture = begin_capture,
    .end_capture = end_capture,
    .drop_capture = drop_capture,
    .launch_graph = launch_graph,
    .release_graph = release_graph,
};

}  // namespace

const Memory& memory(int index) {
  require_device(index);
  return cuda_memory;
}

}  // namespace xent::cuda
