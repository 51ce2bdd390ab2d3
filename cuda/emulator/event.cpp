// Events: a place in a stream that the host or another stream can wait for.
#include <algorithm>
#include <memory>

#include "stream.h"

using namespace xent::emulator;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

// Events inside a capture would make it branch; what is captured here is one stream.
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const DeviceLock lock;
  const std::shared_ptr<CUstream_st> recorded = find_stream(stream);
  if (recorded->capture) {
    recorded->broken = true;
    return remember(cudaErrorStreamCaptureUnsupported);
  }
  event->number = recorded->queued;
  event->stream = recorded;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const DeviceLock lock;
  const std::shared_ptr<CUstream_st> waiting = find_stream(stream);
  if (waiting->capture) {
    waiting->broken = true;
    return remember(cudaErrorStreamCaptureIsolation);
  }
  if (!event->stream || event->stream == waiting) return cudaSuccess;
  return enqueue(stream, [other = event->stream, number = event->number] { run_until(*other, number); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const DeviceLock lock;
  if (forbidden_in_capture()) return remember(cudaErrorStreamCaptureUnsupported);
  if (event->stream) run_until(*event->stream, event->number);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const DeviceLock lock;
  if (!event->stream) return cudaSuccess;
  run_until(*event->stream, std::min(event->stream->done + 1, event->number));
  return event->stream->done >= event->number ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;  // which no test may rely on
  return cudaSuccess;
}

}  // extern "C"
