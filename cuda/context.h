// Context: what this process has on one device: a stream for all its threads, and the record of errors.
#pragma once

#include <cuda_runtime.h>

#include <mutex>

#include <xent/cuda/error_record.h>

namespace xent::cuda {

struct Context {
  explicit Context(int index);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Held by who launches, copies or waits, and as long as a capture lasts: what another thread put into the stream
  // meanwhile would become part of the graph.
  std::recursive_mutex mutex;

  cudaStream_t stream = nullptr;   // waits for no other, nor they for it
  ErrorRecord* errors = nullptr;   // on the device
  ErrorRecord* noticed = nullptr;  // what the host has last read of it, pinned
};

// Throws DeviceError if there is no driver, or no device of this index.
void require_device(int index);

// Returns the context of a device, made when first asked for, and makes that device the calling thread's current one.
// Throws as require_device does, and whatever a kernel before has broken. Contexts are never destroyed: tensors in
// static storage may outlive every other static object.
Context& context(int index);

// The same of one that has been made, and asks nothing of CUDA: for destructors, which must not throw.
Context& known_context(int index) noexcept;

// Waits for all that was launched. Throws what a kernel could not: LabelError for a bad label, and then the device's
// record is clear again.
void wait(Context& on);

}  // namespace xent::cuda
