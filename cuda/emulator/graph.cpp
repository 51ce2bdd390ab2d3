// Graphs: what a stream was given while it was captured, kept as a list and queued again by each launch.
#include <memory>
#include <utility>

#include "stream.h"

using namespace xent::emulator;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const DeviceLock lock;
  if (!stream) return remember(cudaErrorStreamCaptureUnsupported);
  CUstream_st& captured = *find_stream(stream);
  if (captured.capture) return remember(cudaErrorIllegalState);
  captured.capture = std::make_unique<CUgraph_st>();
  captured.mode = mode;
  captured.captured_by = std::this_thread::get_id();
  captured.broken = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const DeviceLock lock;
  *graph = nullptr;
  CUstream_st& captured = *find_stream(stream);
  if (!captured.capture) return remember(cudaErrorIllegalState);
  std::unique_ptr<CUgraph_st> recorded = std::move(captured.capture);
  if (captured.broken) return remember(cudaErrorStreamCaptureInvalidated);
  *graph = recorded.release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const DeviceLock lock;
  const CUstream_st& asked = *find_stream(stream);
  *status = !asked.capture ? cudaStreamCaptureStatusNone
            : asked.broken ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const DeviceLock lock;
  for (const Work& work : executable->work)
    if (const cudaError_t error = enqueue(stream, work); error != cudaSuccess) return error;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes) return remember(cudaErrorNotSupported);
  *count = graph->work.size();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

}  // extern "C"
