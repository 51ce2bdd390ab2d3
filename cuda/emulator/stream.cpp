#include "stream.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "memory.h"
#include "runtime.h"
#include "schedule.h"
#include "site.h"

namespace xent::emulator {
namespace {

// Never destroyed: a program's globals may destroy streams later. The first is stream 0.
auto& streams = *new std::vector<std::shared_ptr<CUstream_st>>;
thread_local cudaError_t last_error = cudaSuccess;
std::exception_ptr kept_error;
bool unloaded = false;

void run_first(CUstream_st& stream) {
  const Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  try {
    work();
  } catch (...) {  // on a GPU nothing would run any more
    for (const auto& each : streams) {
      each->queue.clear();
      each->done = each->queued;
    }
    throw;
  }
  ++stream.done;
}

}  // namespace

std::shared_ptr<CUstream_st> find_stream(cudaStream_t stream) {
  if (streams.empty()) {
    streams.push_back(std::make_shared<CUstream_st>());
    std::atexit([] { unloaded = true; });  // before the destructors of globals, which were made before main
  }
  if (!stream) return streams.front();
  for (const auto& known : streams)
    if (known.get() == stream) return known;
  throw KernelError("a stream is used that was destroyed, or never made");
}

void run_until(CUstream_st& stream, uint64_t number) {
  const DeviceAccess access;
  while (stream.done < number && !stream.queue.empty()) run_first(stream);
}

DeviceLock::DeviceLock() {
  static std::recursive_mutex& mutex = *new std::recursive_mutex;
  lock_ = std::unique_lock(mutex);
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
  if (unloaded) return cudaErrorCudartUnloading;
  CUstream_st& to = *find_stream(stream);
  if (!stream && forbidden_in_capture()) return remember(cudaErrorStreamCaptureImplicit);
  if (to.capture) {
    to.capture->work.push_back(std::move(work));
  } else {
    to.queue.push_back(std::move(work));
    ++to.queued;
  }
  return cudaSuccess;
}

void drain(cudaStream_t stream) {
  if (kept_error) std::rethrow_exception(std::exchange(kept_error, nullptr));
  CUstream_st& all_of = *find_stream(stream);
  run_until(all_of, all_of.queued);
}

void drain_all() {
  if (kept_error) std::rethrow_exception(std::exchange(kept_error, nullptr));
  const DeviceAccess access;
  Shuffler shuffler(schedule().seed);
  for (;;) {  // one piece of one stream after the other: streams wait for each other by events alone
    std::vector<CUstream_st*> busy;
    for (const auto& stream : streams)
      if (!stream->queue.empty()) busy.push_back(stream.get());
    if (busy.empty()) return;
    size_t next = 0;
    if (schedule().order == Order::backward) next = busy.size() - 1;
    if (schedule().order == Order::shuffled) next = shuffler.below(busy.size());
    run_first(*busy[next]);
  }
}

bool drain_before_release() {
  if (unloaded) return false;
  try {
    drain_all();
  } catch (...) {
    kept_error = std::current_exception();
  }
  return true;
}

bool forbidden_in_capture() {
  bool forbidden = false;
  for (const auto& stream : streams) {
    if (!stream->capture || stream->mode == cudaStreamCaptureModeRelaxed) continue;
    if (stream->mode == cudaStreamCaptureModeThreadLocal && stream->captured_by != std::this_thread::get_id()) continue;
    stream->broken = forbidden = true;
  }
  return forbidden;
}

}  // namespace xent::emulator

using namespace xent::emulator;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const DeviceLock lock;
  find_stream(nullptr);  // stream 0 is the first
  *stream = streams.emplace_back(std::make_shared<CUstream_st>()).get();
  (*stream)->device = current_device();
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const DeviceLock lock;
  if (!stream) return remember(cudaErrorInvalidResourceHandle);
  if (!drain_before_release()) return cudaErrorCudartUnloading;
  std::erase_if(streams, [&](const auto& known) { return known.get() == stream; });
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const DeviceLock lock;
  CUstream_st& waited_for = *find_stream(stream);
  waited_for.broken = true;  // if it is being captured, whoever does it
  if (waited_for.capture || forbidden_in_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  drain(stream);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const DeviceLock lock;
  if (forbidden_in_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  drain_all();
  return cudaSuccess;
}

// A loop that asks until it is done must come to an end: every question does one piece of work.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const DeviceLock lock;
  CUstream_st& asked = *find_stream(stream);
  if (asked.capture) return remember(cudaErrorStreamCaptureUnsupported);
  run_until(asked, std::min(asked.done + 1, asked.queued));
  return asked.queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

}  // extern "C"
