// Streams are queues of work. Nothing in them runs before the host waits for it, so a wait that is missing, or memory
// that was freed too early, is seen every time. Capture moves what would be queued into a graph; launching that queues
// it all.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace xent::emulator {
using Work = std::function<void()>;
}

// NVIDIA's headers say that there are such types, and no more.
struct CUgraph_st {
  std::vector<xent::emulator::Work> work;
};
struct CUgraphExec_st {
  std::vector<xent::emulator::Work> work;
};
struct CUstream_st {
  int device = 0;
  std::deque<xent::emulator::Work> queue;
  uint64_t queued = 0, done = 0;        // how much there has ever been of it
  std::unique_ptr<CUgraph_st> capture;  // while it is being captured
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id captured_by;
  bool broken = false;  // the capture did what it may not
};
struct CUevent_st {
  std::shared_ptr<CUstream_st> stream;
  uint64_t number = 0;  // the event has happened when the stream has done so much
};

namespace xent::emulator {

// Held by every function that a program calls: the device has one state, which all threads of the host share.
class DeviceLock {
 public:
  DeviceLock();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// Queues work, or records it where the stream is being captured.
cudaError_t enqueue(cudaStream_t stream, Work work);

// Runs what is queued in a stream, or in all of them. Throws what the work throws; then nothing is queued any more.
void drain(cudaStream_t stream);
void drain_all();

// The same for who frees or destroys something, often in a destructor: what the work throws is kept for the next drain.
// Returns false, and runs nothing, when the program ends: CUDA ends before the globals do, and what is queued is lost.
bool drain_before_release();

// Runs a stream until it has done so much.
void run_until(CUstream_st& stream, uint64_t number);

std::shared_ptr<CUstream_st> find_stream(cudaStream_t stream);

// Says whether this thread may not wait, allocate or free now, because a stream is being captured; then that capture
// has failed.
bool forbidden_in_capture();

// Keeps an error for cudaGetLastError, and returns it.
cudaError_t remember(cudaError_t error);

}  // namespace xent::emulator
