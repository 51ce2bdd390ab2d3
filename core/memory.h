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
};

// Returns the table of a device. Throws DeviceError if this build or this machine has none.
const Memory& memory(Device device);

// Blocks of a caching allocator: sizes are rounded up to a bucket, released blocks wait for the next of their bucket.
std::byte* cache_take(size_t bytes, Device device);
void cache_give_back(std::byte* data, size_t bytes, Device device);

// The size of the block that serves a request: a multiple of 64 bytes; from 512 on at most 1/8 larger than asked for.
size_t bucket_size(size_t bytes);

bool poisons_fresh_memory();

}  // namespace xent
