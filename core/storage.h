// Storage: bytes on one device, owned through a shared pointer. Knows nothing of shapes.
//
// Memory is reused, because a first touch of a fresh page costs microseconds: outside a Step it comes from a caching
// allocator per device, inside a Step from the plan's Arena. Both hand out 64-byte aligned blocks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <xent/core/device.h>

namespace xent {

class Arena;
class Storage;
using StorageRef = std::shared_ptr<Storage>;

class Storage {
 public:
  // Takes bytes from the arena of the running Step, or else from the device's cache. Throws DeviceError.
  static StorageRef allocate(size_t bytes, Device device);

  // Takes bytes that outlive the running Step: parameters, moments, metrics.
  static StorageRef allocate_persistent(size_t bytes, Device device);

  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  // Counts in-place writes, so that the tape can tell that a tensor it kept was changed since.
  uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump_version() { version_.fetch_add(1, std::memory_order_relaxed); }

  // Tapes with a serial up to this one did not see how the bytes were written in place.
  uint64_t opaque_to() const { return opaque_to_.load(std::memory_order_relaxed); }
  void mark_opaque(uint64_t tape) {
    if (tape > opaque_to()) opaque_to_.store(tape, std::memory_order_relaxed);
  }

  // The call of the Step the bytes belong to now; always 0 for persistent bytes. A handle that was made in another
  // call is stale.
  uint64_t generation() const;
  bool in_arena() const { return arena_ != nullptr; }
  const Arena* arena() const { return arena_.get(); }  // null for persistent bytes

 private:
  struct Private {};  // lets make_shared construct, and nobody else

 public:
  Storage(Private, std::byte* data, size_t bytes, Device device, std::shared_ptr<Arena> arena);

 private:
  std::byte* data_;
  size_t bytes_;
  Device device_;
  std::shared_ptr<Arena> arena_;  // null: from the cache
  uint64_t made_in_generation_ = 0;
  std::atomic<uint64_t> version_ = 0;
  std::atomic<uint64_t> opaque_to_ = 0;  // serial of a tape, 0: none
};

// What an allocator has done so far; tests assert on it.
struct MemoryStats {
  size_t live_bytes = 0;       // handed out and not given back
  size_t cached_bytes = 0;     // given back and kept for reuse
  size_t peak_live_bytes = 0;  // since the last reset_peak_memory()
  uint64_t system_calls = 0;   // times the device itself was asked for memory
  uint64_t requests = 0;       // times anybody asked
};
MemoryStats memory_stats(Device device = Device::cpu());
void reset_peak_memory(Device device = Device::cpu());

// Gives cached blocks back to the system.
void release_cached_memory(Device device = Device::cpu());

// Fills fresh memory with 0xFF bytes, which is NaN in every floating dtype, so that a kernel that forgets to write is
// seen. On by default in debug builds; check_op switches it on. Returns the previous setting.
bool poison_fresh_memory(bool on);

}  // namespace xent
