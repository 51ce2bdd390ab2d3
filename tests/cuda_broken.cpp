// A GPU that breaks while it is used, as far as this program can tell: whoever asks it for something gets a
// DeviceError, and what only lets go of it throws nothing.
#include <cuda_runtime.h>

#include <optional>

#include <doctest/doctest.h>

#include <xent/core/fill.h>
#include <xent/core/graph.h>
#include <xent/core/memory.h>
#include <xent/xent.h>

using namespace xent;

namespace {

const Device cuda_device = Device::cuda();
bool broken = false, has_room = true;

}  // namespace

// The linker sends the calls of these functions here. After an illegal access every call of CUDA returns its error.
extern "C" {

cudaError_t __real_cudaSetDevice(int);
cudaError_t __wrap_cudaSetDevice(int device) { return broken ? cudaErrorIllegalAddress : __real_cudaSetDevice(device); }

cudaError_t __real_cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long);
cudaError_t __wrap_cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long flags) {
  return has_room ? __real_cudaGraphInstantiate(made, graph, flags) : cudaErrorMemoryAllocation;
}
}

TEST_CASE("a kernel after which nothing goes is a DeviceError of the next call, not the end of the program") {
  const Op breaks = {.name = "breaks", .formula = "", .infer = same_as_input, .forward = {nullptr, [](const Call&) {
                                                                                            broken = true;
                                                                                          }}};
  const Tensor x = Tensor::ones({3}, DType::f32, cuda_device);
  apply(breaks, {x});
  CHECK(broken);
  CHECK_THROWS_WITH_AS(x.to_vector<float>(), doctest::Contains("cudaSetDevice: "), DeviceError);
  CHECK_THROWS_AS(x.clone(), DeviceError);
  CHECK_THROWS_AS(Tensor::ones({3}, DType::f32, cuda_device), DeviceError);
  broken = false;
  CHECK(x.to_vector<float>() == std::vector<float>{1, 1, 1});
}

TEST_CASE("a capture in which the device breaks is ended, and what broke it is told") {
  const Tensor x = Tensor::ones({3}, DType::f32, cuda_device);
  const auto breaks = [&] {
    broken = true;
    launch_accumulate(x, x);
  };
  CHECK_THROWS_WITH_AS(Graph(cuda_device, breaks), doctest::Contains("cudaSetDevice: "), DeviceError);
  broken = false;
  launch_accumulate(x, x);  // runs: nothing is noted any more
  CHECK(x.to_vector<float>() == std::vector<float>{2, 2, 2});
}

TEST_CASE("tensors, graphs and Steps end without a word on a device that is broken") {
  const Tensor total = Tensor::zeros({3}, DType::f32, cuda_device);
  std::optional<Tensor> x = Tensor::ones({3}, DType::f32, cuda_device);
  std::optional<Graph> graph;
  graph.emplace(cuda_device, [&] { launch_accumulate(total, *x); });
  {
    Step step([&](const Tensor& y) {
      launch_accumulate(total, y.clone());
      return total.clone();
    });
    for (int call = 0; call < 3; ++call) step(*x);
    broken = true;
    CHECK_THROWS_AS(step(*x), DeviceError);
    CHECK_THROWS_AS(graph->launch(), DeviceError);
  }
  graph.reset();
  x.reset();
  broken = false;
  CHECK(total.to_vector<float>() == std::vector<float>{3, 3, 3});
}

TEST_CASE("where there is no room for a graph the error says so, and the Step goes on when there is") {
  const Tensor one = Tensor::ones({3}, DType::f32, cuda_device), total = Tensor::zeros({3}, DType::f32, cuda_device);
  Step step([&](const Tensor& x) { launch_accumulate(total, x); });
  step(one);
  has_room = false;
  CHECK_THROWS_WITH_AS(step(one), doctest::Contains("cudaErrorMemoryAllocation"), DeviceError);
  struct Own {};
  CHECK_THROWS_AS(Graph(cuda_device, [] { throw Own(); }), Own);
  has_room = true;
  for (int call = 0; call < 3; ++call) step(one);
  CHECK(total.to_vector<float>() == std::vector<float>{5, 5, 5});
}
