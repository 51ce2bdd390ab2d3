#include <xent/core/memory.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <vector>

#include <xent/core/require.h>
#include <xent/core/sanitizer.h>
#include <xent/core/storage.h>

namespace xent {

namespace {

// Debug builds poison from the start; the flag may be switched at run time.
#ifdef NDEBUG
std::atomic<bool> poison = false;
#else
std::atomic<bool> poison = true;
#endif

class Cache {
 public:
  explicit Cache(Device device) : device_(device), memory_(memory(device)) {}

  std::byte* take(size_t bytes) {
    const size_t size = block_size(bytes);
    std::scoped_lock lock(mutex_);
    ++stats_.requests;
    std::byte* data = pop(size);
    if (!data) data = ask_system(size);
    stats_.live_bytes += size;
    stats_.peak_live_bytes = std::max(stats_.peak_live_bytes, stats_.live_bytes);
    allow(data, bytes);
    return data;
  }

  void give_back(std::byte* data, size_t bytes) {
    const size_t size = block_size(bytes);
    forbid(data, size);
    std::scoped_lock lock(mutex_);
    stats_.live_bytes -= size;
    if (memory_.exact) {
      memory_.release(device_.index, data, size);
      return;
    }
    try {
      free_[size].push_back(data);
      stats_.cached_bytes += size;
    } catch (const std::bad_alloc&) {  // no memory to remember it by: this may be a destructor, so it must not throw
      allow(data, size);
      memory_.release(device_.index, data, size);
    }
  }

  void release_all() {
    std::scoped_lock lock(mutex_);
    release_locked();
  }

  MemoryStats stats() {
    std::scoped_lock lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    std::scoped_lock lock(mutex_);
    stats_.peak_live_bytes = stats_.live_bytes;
  }

 private:
  size_t block_size(size_t bytes) const { return memory_.exact ? std::max<size_t>(bytes, 1) : bucket_size(bytes); }

  // AddressSanitizer knows of the host's memory only.
  void allow(const void* data, size_t bytes) const {
    if (device_ == Device::cpu()) allow_bytes(data, bytes);
  }
  void forbid(const void* data, size_t bytes) const {
    if (device_ == Device::cpu()) forbid_bytes(data, bytes);
  }

  std::byte* pop(size_t size) {
    const auto found = free_.find(size);
    if (found == free_.end() || found->second.empty()) return nullptr;
    std::byte* data = found->second.back();
    found->second.pop_back();
    stats_.cached_bytes -= size;
    return data;
  }

  std::byte* ask_system(size_t size) {
    ++stats_.system_calls;
    void* data = memory_.allocate(device_.index, size);
    if (!data) {  // what is cached in other sizes may be enough
      release_locked();
      data = memory_.allocate(device_.index, size);
    }
    require<DeviceError>(data != nullptr, "{}: out of memory: {} bytes asked for, {} in use", device_, size,
                         stats_.live_bytes);
    forbid(data, size);
    return static_cast<std::byte*>(data);
  }

  void release_locked() {
    for (auto& [size, blocks] : free_)
      for (std::byte* data : blocks) {
        allow(data, size);
        memory_.release(device_.index, data, size);
      }
    free_.clear();
    stats_.cached_bytes = 0;
  }

  Device device_;
  const Memory& memory_;
  std::mutex mutex_;
  std::map<size_t, std::vector<std::byte*>> free_;
  MemoryStats stats_;
};

// Never destroyed: tensors in static storage may outlive every other static object.
Cache& cache(Device device) {
  if (device == Device::cpu()) {
    static Cache& cpu = *new Cache(Device::cpu());
    return cpu;
  }
  memory(device);  // throws for a device that is not there, before it can be taken for another of its index
  static std::mutex mutex;
  static std::map<int, Cache*>& others = *new std::map<int, Cache*>;
  std::scoped_lock lock(mutex);
  Cache*& found = others[device.index];
  if (!found) found = new Cache(device);
  return *found;
}

}  // namespace

Turn::Turn(Device device) : memory_(memory(device)), index_(device.index) {
  if (memory_.lock) memory_.lock(index_);
}
Turn::~Turn() {
  if (memory_.unlock) memory_.unlock(index_);
}

size_t bucket_size(size_t bytes) {
  constexpr size_t alignment = 64;
  if (bytes <= 8 * alignment) return std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
  const size_t step = std::bit_floor(bytes - 1) / 8;  // eight buckets per doubling
  return (bytes + step - 1) / step * step;
}

std::byte* cache_take(size_t bytes, Device device) {
  std::byte* data = cache(device).take(bytes);
  if (poisons_fresh_memory()) memory(device).fill_bytes(device.index, data, 0xFF, bytes);
  return data;
}

void cache_give_back(std::byte* data, size_t bytes, Device device) { cache(device).give_back(data, bytes); }

MemoryStats memory_stats(Device device) { return cache(device).stats(); }
void reset_peak_memory(Device device) { cache(device).reset_peak(); }
void release_cached_memory(Device device) { cache(device).release_all(); }

bool poison_fresh_memory(bool on) { return poison.exchange(on); }
bool poisons_fresh_memory() { return poison.load(std::memory_order_relaxed); }

}  // namespace xent
