#include <xent/cuda/graph.h>

#include <xent/cuda/check.h>
#include <xent/cuda/context.h>

namespace xent::cuda {

// Of this thread: another one may take memory meanwhile.
void begin_capture(int index) {
  check(cudaStreamBeginCapture(context(index).stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

namespace {

// Null if it was spoiled.
cudaGraph_t noted(int index) noexcept {
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(known_context(index).stream, &graph) == cudaSuccess) return graph;
  cudaGetLastError();
  return nullptr;
}

}  // namespace

void* end_capture(int index) {
  const cudaGraph_t kernels = noted(index);
  if (!kernels) return nullptr;
  cudaGraphExec_t graph = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&graph, kernels, 0);
  cudaGraphDestroy(kernels);
  check(status, "cudaGraphInstantiate");
  return graph;
}

void drop_capture(int index) noexcept {
  if (const cudaGraph_t kernels = noted(index)) cudaGraphDestroy(kernels);
}

void launch_graph(int index, void* graph) {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), context(index).stream), "cudaGraphLaunch");
}

void release_graph(int, void* graph) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

}  // namespace xent::cuda
