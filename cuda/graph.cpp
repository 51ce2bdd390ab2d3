#include <xent/cuda/graph.h>

#include <xent/cuda/check.h>
#include <xent/cuda/context.h>

namespace xent::cuda {

// Of this thread: another one may take memory meanwhile.
void begin_capture(int index) {
  check(cudaStreamBeginCapture(context(index).stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

void* end_capture(int index) {
  cudaGraph_t noted = nullptr;
  cudaGraphExec_t graph = nullptr;
  if (cudaStreamEndCapture(context(index).stream, &noted) == cudaSuccess) {
    if (cudaGraphInstantiate(&graph, noted, 0) != cudaSuccess) graph = nullptr;
    cudaGraphDestroy(noted);
  }
  cudaGetLastError();
  return graph;
}

void launch_graph(int index, void* graph) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), context(index).stream), "cudaGraphLaunch");
}

void release_graph(int, void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

}  // namespace xent::cuda
