// Memory: the handful of functions a device offers. One table per kind of device; ops never come here.
#pragma once

#include <cstddef>

#include <xent/core/device.h>

namespace xent {

struct Memory {
  void* (*allocate)(int index, size_t bytes);  // 64-byte aligned; null when there is none left
  void (*release)(int index, void* data, size_t bytes);
  void (*fill_bytes)(int index, void* data, int byte, size_t bytes);
  void (*copy_from_host)(int index, void* to, const void* from, size_t bytes);
  void (*copy_to_host)(int index, void* to, const void* from, size_t bytes);  // waits for the device

  // Hands out blocks of just the size that is asked for and keeps none, so that an access beyond one is seen.
  bool exact = false;

  // What a device has that works apart from the host: null where a kernel has run when it returns. There the functions
  // above come after what was launched before, and copy_to_host throws what a kernel could not: a LabelError.
  Stream (*stream)(int index) = nullptr;
  void (*lock)(int index) = nullptr;           // other threads' launches wait; a thread may lock more than once
  void (*unlock)(int index) = nullptr;         // throws nothing
  void (*wait)(int index) = nullptr;           // until all that was launched is done
  void (*begin_capture)(int index) = nullptr;  // launches of this thread are noted from here on, and do not run
  void* (*end_capture)(int index) = nullptr;   // makes a graph of them; null if they cannot be one
  void (*drop_capture)(int index) = nullptr;   // the same, but makes nothing of them; throws nothing
  void (*launch_graph)(int index, void* graph) = nullptr;
  void (*release_graph)(int index, void* graph) = nullptr;
};

// Returns the table of a device. Throws DeviceError if this build or this machine has none.
const Memory& memory(Device device);

// The same of the GPUs, defined in cuda/: only where this build has CUDA.
namespace cuda {
int device_count();  // 0 without a driver
const Memory& memory(int index);
}  // namespace cuda

// Keeps other threads from launching on a device while it lives.
class Turn {
 public:
  explicit Turn(Device device);
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const Memory& memory_;
  int index_;
};

// Blocks of a caching allocator: sizes are rounded up to a bucket, released blocks wait for the next of their bucket.
std::byte* cache_take(size_t bytes, Device device);
void cache_give_back(std::byte* data, size_t bytes, Device device);

// The size of the block that serves a request: a multiple of 64 bytes; from 512 on at most 1/8 larger than asked for.
size_t bucket_size(size_t bytes);

bool poisons_fresh_memory();

}  // namespace xent
