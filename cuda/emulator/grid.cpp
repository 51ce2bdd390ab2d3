// A launch: checks its limits, waits in its stream's queue, and runs the blocks of the grid in the schedule's order.
#include <map>
#include <utility>
#include <vector>

#include <xent/cuda/launch.cuh>

#include "collectives.h"
#include "fence.h"
#include "memory.h"
#include "runtime.h"
#include "sanitizer.h"
#include "schedule.h"
#include "shared_memory.h"
#include "stream.h"
#include "threads.h"

namespace xent::emulator {
namespace {

Schedule current_schedule;
std::map<const void*, size_t> dynamic_limit;  // of kernels that have asked for more than usual

// Has the shared memory of all its blocks released however the kernel ends.
struct SharedMemoryScope {
  ~SharedMemoryScope() { end_shared_memory(); }
};

void run_grid(const cuda::Launch& launch, const std::function<void()>& body) {
  const SharedMemoryScope scope;
  grid_extent = launch.grid;
  forget_fences();
  prepare_blocks(launch.kernel, launch.block);
  const uint64_t count = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<uint64_t> order;
  if (current_schedule.order == Order::shuffled) {
    order.resize(count);
    Shuffler shuffler(current_schedule.seed);
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t j = shuffler.below(i + 1);
      order[i] = order[j];
      order[j] = i;
    }
  }
  for (uint64_t i = current_schedule.order == Order::last_block ? count - 1 : 0; i < count; ++i) {
    uint64_t at = i;
    if (current_schedule.order == Order::backward) at = count - 1 - i;
    if (current_schedule.order == Order::shuffled) at = order[i];
    const auto index = [&](uint64_t number) { return static_cast<unsigned>(number); };
    block_index = {index(at % launch.grid.x), index(at / launch.grid.x % launch.grid.y),
                   index(at / launch.grid.x / launch.grid.y)};
    begin_shared_memory(launch.shared_bytes);
    run_block(body);
    check_shared_memory(launch.kernel);
  }
  end_blocks();
  check_guards(launch.kernel);
}

bool fits(const cuda::Launch& launch) {
  const dim3 &grid = launch.grid, &extent = launch.block;
  const uint64_t threads = uint64_t{extent.x} * extent.y * extent.z;
  return threads > 0 && threads <= 1024 && threads <= launch.max_threads && extent.z <= 64 && grid.x > 0 &&
         grid.x <= 0x7fffffff && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535;
}

}  // namespace

Schedule schedule() { return current_schedule; }
ScheduleScope::ScheduleScope(Schedule schedule) : before_(std::exchange(current_schedule, schedule)) {}
ScheduleScope::~ScheduleScope() { current_schedule = before_; }

cudaError_t enqueue_kernel(const cuda::Launch& launch, const void* kernel, std::function<void()> check,
                           std::function<void()> body) {
  const DeviceLock lock;
  if (!fits(launch)) return remember(cudaErrorInvalidConfiguration);
  const auto limit = dynamic_limit.find(kernel);
  if (launch.shared_bytes > (limit == dynamic_limit.end() ? most_static_shared_bytes : limit->second))
    return remember(cudaErrorInvalidValue);
  const int device = launch.stream ? find_stream(launch.stream)->device : current_device();
  if (device != current_device()) return remember(cudaErrorInvalidResourceHandle);
  check_arguments(device, check);
  return enqueue(launch.stream, [launch, device, check = std::move(check), body = std::move(body)] {
    check_arguments(device, check);
    run_grid(launch, body);
  });
}

}  // namespace xent::emulator

extern "C" cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  using namespace xent::emulator;
  const DeviceLock lock;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return remember(cudaErrorNotSupported);
  if (value < 0 || static_cast<size_t>(value) > most_shared_bytes) return remember(cudaErrorInvalidValue);
  dynamic_limit[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
