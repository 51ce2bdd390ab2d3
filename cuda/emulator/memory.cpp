#include "memory.h"

#include <cuda_runtime.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include <xent/cuda/launch.cuh>

#include "runtime.h"
#include "sanitizer.h"
#include "stream.h"
#include "threads.h"

namespace xent::emulator {
namespace {

constexpr size_t guard = 256;  // on either side; also what cudaMalloc aligns to

struct Allocation {
  size_t bytes;
  int device;
};
using Allocations = std::map<const char*, Allocation>;
Allocations& device_memory = *new Allocations;  // never destroyed: a program's globals may free what they hold later
Allocations& pinned_memory = *new Allocations;

size_t whole(size_t bytes) { return guard + (bytes + guard - 1) / guard * guard + guard; }

// Huge memory is addresses alone until it is touched: neither filled nor watched byte by byte. On either side lie as
// many addresses that nobody can touch, since an offset in 32 bits that has wrapped ends up there.
bool is_huge(size_t bytes) { return bytes >= size_t{1} << 30; }

size_t whole_pages(size_t bytes) {
  constexpr size_t page = 1 << 16;
  return (bytes + page - 1) / page * page;
}

char* reserve_huge(size_t bytes) {
  const size_t side = whole_pages(bytes);
  void* const all = mmap(nullptr, 3 * side, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(all) + side;
  if (mprotect(begin, side, PROT_READ | PROT_WRITE) == 0) return begin;
  munmap(all, 3 * side);
  return nullptr;
}

void release_huge(char* begin, size_t bytes) {
  const size_t side = whole_pages(bytes);
  munmap(begin - side, 3 * side);
}

char* reserve(size_t bytes) {
  if (is_huge(bytes)) return reserve_huge(bytes);
  char* const begin = static_cast<char*>(std::aligned_alloc(guard, whole(bytes)));
  if (!begin) return nullptr;
  std::memset(begin, 0xff, whole(bytes));
  forbid(begin, whole(bytes));
  return begin + guard;
}

void release_memory(char* data, size_t bytes) {
  if (is_huge(bytes)) return release_huge(data, bytes);
  allow(data - guard, whole(bytes));
  std::free(data - guard);
}

// The allocation that all these bytes belong to, or null.
const Allocation* find(const Allocations& allocations, const void* begin, size_t bytes) {
  const char* const first = static_cast<const char*>(begin);
  auto after = allocations.upper_bound(first);
  if (after == allocations.begin()) return nullptr;
  --after;
  const Allocation& allocation = after->second;
  const size_t offset = static_cast<size_t>(first - after->first);
  return offset <= allocation.bytes && bytes <= allocation.bytes - offset ? &allocation : nullptr;
}

int accesses = 0;
int checked_device = 0;

}  // namespace

bool is_device_memory(const void* begin, size_t bytes) { return find(device_memory, begin, bytes); }
bool is_pinned_memory(const void* begin, size_t bytes) { return find(pinned_memory, begin, bytes); }

int device_of(const void* pointer) {
  const Allocation* const allocation = find(device_memory, pointer, 0);
  return allocation ? allocation->device : -1;
}

void check_arguments(int device, const std::function<void()>& check) {
  checked_device = device;
  check();
}

void check_device_pointer(const void* pointer, const char* kernel, int argument) {
  if (!pointer) return;
  const int device = device_of(pointer);
  if (device < 0)
    throw KernelError(fmt::format("kernel {}: argument {} is {}, which is not in device memory, or no longer", kernel,
                                  argument, pointer));
  if (device != checked_device)
    throw KernelError(fmt::format("kernel {}: argument {} is memory of device {}, and the kernel runs on device {}",
                                  kernel, argument, device, checked_device));
}

void check_guards(const char* kernel) {
  if constexpr (checks_addresses) return;  // the access itself has been reported
  static const std::string untouched(2 * guard, '\xff');
  for (const auto& [data, allocation] : device_memory) {
    const size_t bytes = allocation.bytes;
    if (is_huge(bytes)) continue;
    const std::string_view before(data - guard, guard), behind(data + bytes, whole(bytes) - guard - bytes);
    const auto stop_at = [&](ptrdiff_t byte) {
      throw KernelError(fmt::format("kernel {}: wrote at byte {} of device memory of {} bytes", kernel, byte, bytes));
    };
    if (untouched.compare(0, guard, before) != 0)
      stop_at(static_cast<ptrdiff_t>(before.find_first_not_of('\xff')) - static_cast<ptrdiff_t>(guard));
    if (untouched.compare(0, behind.size(), behind) != 0)
      stop_at(static_cast<ptrdiff_t>(bytes + behind.find_first_not_of('\xff')));
  }
}

DeviceAccess::DeviceAccess() {
  if (accesses++ > 0) return;
  for (const auto& [data, allocation] : device_memory)
    if (!is_huge(allocation.bytes)) allow(data, allocation.bytes);
}
DeviceAccess::~DeviceAccess() {
  if (--accesses > 0) return;
  for (const auto& [data, allocation] : device_memory)
    if (!is_huge(allocation.bytes)) forbid(data, allocation.bytes);
}

}  // namespace xent::emulator

using namespace xent::emulator;

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const DeviceLock lock;
  *pointer = nullptr;
  if (forbidden_in_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (bytes > size_t{1} << 40) return remember(cudaErrorMemoryAllocation);
  char* const data = reserve(bytes);
  if (!data) return remember(cudaErrorMemoryAllocation);
  device_memory[data] = {bytes, current_device()};
  *pointer = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  const DeviceLock lock;
  if (forbidden_in_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  if (!pointer) return cudaSuccess;
  const auto found = device_memory.find(static_cast<char*>(pointer));
  if (found == device_memory.end()) return remember(cudaErrorInvalidValue);
  if (!drain_before_release()) return cudaErrorCudartUnloading;
  const size_t bytes = found->second.bytes;
  device_memory.erase(found);
  release_memory(static_cast<char*>(pointer), bytes);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const DeviceLock lock;
  *total = size_t{1} << 40;
  *free = *total;
  for (const auto& [data, allocation] : device_memory)
    if (allocation.device == current_device()) *free -= allocation.bytes;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  const DeviceLock lock;
  if (forbidden_in_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  *pointer = std::malloc(bytes);
  if (!*pointer) return remember(cudaErrorMemoryAllocation);
  pinned_memory[static_cast<char*>(*pointer)] = {bytes, -1};
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  const DeviceLock lock;
  if (!pointer) return cudaSuccess;
  if (!pinned_memory.contains(static_cast<char*>(pointer))) return remember(cudaErrorInvalidValue);
  if (!drain_before_release()) return cudaErrorCudartUnloading;
  pinned_memory.erase(static_cast<char*>(pointer));
  std::free(pointer);
  return cudaSuccess;
}

}  // extern "C"
