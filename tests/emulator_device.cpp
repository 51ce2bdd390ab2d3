// The emulated device: memory, streams, events and graphs behave as CUDA promises, and where CUDA promises nothing they
// do what shows a mistake.
#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/emulator/schedule.h>
#include <xent/cuda/emulator/site.h>

#include "emulator_array.h"
#include "emulator_kernels.cuh"

using namespace xent;
using emulator::Order;

namespace {

__global__ void add(float* x, float value) { x[threadIdx.x] += value; }

__global__ void copy(const float* from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }

__global__ void stop_at(float* x, int thread) {
  if (static_cast<int>(threadIdx.x) == thread) return;
  __syncthreads();
  x[threadIdx.x] = 1;
}

struct Stream {
  cudaStream_t handle = nullptr;
  Stream() { check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(handle); }
};

// What is queued shows in memory that the host may read at any time.
struct Pinned {
  float* data = nullptr;
  explicit Pinned(size_t count) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, count * sizeof(float)));
    data = static_cast<float*>(memory);
    for (size_t i = 0; i < count; ++i) data[i] = 0;
  }
  ~Pinned() { cudaFreeHost(data); }
};

void add_and_show(const DeviceArray<float>& x, float value, const Pinned& shown, cudaStream_t stream) {
  check(cuda::launch({"add", 1, 1, 0, stream}, add, x.data(), value));
  check(cudaMemcpyAsync(shown.data, x.data(), sizeof(float), cudaMemcpyDeviceToHost, stream));
}

struct Rows {
  const float* data;
  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
  }
};

// Writes down who comes: out[0] counts, and out[n] is the n-th.
__global__ void queue_up(int* out) { out[1 + atomicAdd(&out[0], 1)] = static_cast<int>(blockIdx.x * 10 + threadIdx.x); }

}  // namespace

TEST_CASE("blocks and threads come in the order of the schedule") {
  const auto order_of = [](emulator::Schedule schedule) {
    const emulator::ScheduleScope scope(schedule);
    const DeviceArray<int> out(std::vector<int>(7));
    check(cuda::launch({"queue_up", 2, 3}, queue_up, out.data()));
    const std::vector<int> values = out.values();
    return std::vector<int>(values.begin() + 1, values.end());
  };
  const std::vector<int> forward = {0, 1, 2, 10, 11, 12};
  CHECK(order_of({Order::forward, 0}) == forward);
  CHECK(order_of({Order::backward, 0}) == std::vector<int>{12, 11, 10, 2, 1, 0});
  CHECK(order_of({Order::last_block, 0}) == std::vector<int>{10, 11, 12, 0, 0, 0});
  std::set<std::vector<int>> shuffled;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<int> order = order_of({Order::shuffled, seed});
    CHECK(order == order_of({Order::shuffled, seed}));
    shuffled.insert(order);
    std::sort(order.begin(), order.end());
    CHECK(order == forward);
  }
  CHECK(shuffled.size() > 10);
}

TEST_CASE("a copy from pageable memory has read it on return, one from pinned memory has not") {
  const Stream stream;
  const DeviceArray<float> x(1);
  const Pinned pinned(1);
  float pageable = 1;
  check(cudaMemcpyAsync(x.data(), &pageable, sizeof(float), cudaMemcpyHostToDevice, stream.handle));
  pageable = 2;
  CHECK(x.values()[0] == 1);
  pinned.data[0] = 1;
  check(cudaMemcpyAsync(x.data(), pinned.data, sizeof(float), cudaMemcpyHostToDevice, stream.handle));
  pinned.data[0] = 2;
  CHECK(x.values()[0] == 2);
}

TEST_CASE("fresh device memory holds NaNs") {
  for (const float value : DeviceArray<float>(5).values()) CHECK(std::isnan(value));
}

TEST_CASE("nothing in a stream runs before the host waits for it") {
  const Stream stream;
  const DeviceArray<float> x(std::vector<float>{1});
  const Pinned shown(1);
  add_and_show(x, 2, shown, stream.handle);
  CHECK(shown.data[0] == 0);
  check(cudaStreamSynchronize(stream.handle));
  CHECK(shown.data[0] == 3);
}

TEST_CASE("a loop of questions comes to an end") {
  const Stream stream;
  const DeviceArray<float> x(std::vector<float>{1});
  const Pinned shown(1);
  add_and_show(x, 2, shown, stream.handle);
  int questions = 1;
  while (cudaStreamQuery(stream.handle) == cudaErrorNotReady) ++questions;
  CHECK(questions == 2);
  CHECK(shown.data[0] == 3);
}

TEST_CASE("a graph runs nothing while it is captured, and everything at each launch") {
  const Stream stream;
  const DeviceArray<float> x(std::vector<float>{1});
  const Pinned shown(1);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
  add_and_show(x, 2, shown, stream.handle);
  cudaStreamCaptureStatus status;
  check(cudaStreamIsCapturing(stream.handle, &status));
  CHECK(status == cudaStreamCaptureStatusActive);
  check(cudaStreamEndCapture(stream.handle, &graph));
  size_t nodes = 0;
  check(cudaGraphGetNodes(graph, nullptr, &nodes));
  CHECK(nodes == 2);
  check(cudaGraphInstantiate(&executable, graph, 0));
  check(cudaGraphDestroy(graph));
  check(cudaStreamSynchronize(stream.handle));
  CHECK(shown.data[0] == 0);
  for (int launch = 1; launch <= 3; ++launch) {
    check(cudaGraphLaunch(executable, stream.handle));
    check(cudaStreamSynchronize(stream.handle));
    CHECK(shown.data[0] == static_cast<float>(1 + 2 * launch));
  }
  check(cudaGraphExecDestroy(executable));
}

TEST_CASE("waiting, allocating and freeing spoil a capture; the next one works") {
  const Stream stream, other;
  void* memory = nullptr;
  const auto spoiled_by = [&](auto&& call) {
    cudaGraph_t graph;
    check(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal));
    const cudaError_t error = call();
    const cudaError_t end = cudaStreamEndCapture(stream.handle, &graph);
    if (end == cudaSuccess) cudaGraphDestroy(graph);
    return error != cudaSuccess && end == cudaErrorStreamCaptureInvalidated;
  };
  CHECK(spoiled_by([&] { return cudaStreamSynchronize(stream.handle); }));
  CHECK(spoiled_by([&] { return cudaStreamSynchronize(other.handle); }));
  CHECK(spoiled_by([&] { return cudaDeviceSynchronize(); }));
  CHECK(spoiled_by([&] { return cudaMalloc(&memory, 16); }));
  CHECK(spoiled_by([&] { return cudaFree(memory); }));
  float host = 0;
  const DeviceArray<float> x(1);
  CHECK(spoiled_by([&] { return cudaMemcpy(x.data(), &host, sizeof(host), cudaMemcpyHostToDevice); }));
  CHECK(spoiled_by([&] { return cuda::launch({"add", 1, 1}, add, x.data(), 1.0f); }));  // stream 0
  CHECK(!spoiled_by([&] { return cuda::launch({"add", 1, 1, 0, stream.handle}, add, x.data(), 1.0f); }));
}

TEST_CASE("streams wait for each other by events, and by nothing else") {
  const auto read_by_the_other = [](Order order, bool wait) {
    const emulator::ScheduleScope scope({order, 0});
    const Stream writer, reader;
    const DeviceArray<float> x(std::vector<float>{1}), y(1);
    cudaEvent_t written;
    check(cudaEventCreateWithFlags(&written, cudaEventDisableTiming));
    check(cuda::launch({"add", 1, 1, 0, writer.handle}, add, x.data(), 1.0f));
    check(cudaEventRecord(written, writer.handle));
    if (wait) check(cudaStreamWaitEvent(reader.handle, written, 0));
    check(cuda::launch({"copy", 1, 1, 0, reader.handle}, copy, x.data(), y.data()));
    check(cudaDeviceSynchronize());
    check(cudaEventDestroy(written));
    return y.values()[0];
  };
  for (const Order order : {Order::forward, Order::backward, Order::shuffled})
    CHECK(read_by_the_other(order, true) == 2);
  CHECK(read_by_the_other(Order::backward, false) == 1);
}

TEST_CASE("the wrong direction of a copy, and one beyond the end, are refused") {
  const DeviceArray<float> x(2);
  float host[3] = {};
  CHECK(cudaMemcpy(x.data(), host, 8, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x.data(), host, 12, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemset(host, 0, 4) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaFree(host) == cudaErrorInvalidValue);
}

TEST_CASE("gigabytes of memory are zeros, and can be had many times over") {
  for (int turn = 0; turn < 3; ++turn) {
    const size_t count = size_t{1} << 35;
    const DeviceArray<float> x(count), y(count);
    CHECK(x.value(count - 1) == 0);
    x.set(count - 1, 5);
    check(cuda::launch({"copy", 1, 1}, copy, x.data() + count - 1, y.data() + count / 2));
    CHECK(y.value(count / 2) == 5);
  }
}

TEST_CASE("a kernel that fails ends what is queued, and the next one works") {
  const DeviceArray<float> x(std::vector<float>(32));
  for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
    const emulator::ScheduleScope scope({order, 7});
    check(cuda::launch({"stop_at", 1, 32}, stop_at, x.data(), 5));
    check(cuda::launch({"add", 1, 32}, add, x.data(), 1.0f));
    CHECK_THROWS_AS(cudaDeviceSynchronize(), emulator::KernelError);
    CHECK(x.values() == std::vector<float>(32));
    check(cuda::launch({"stop_at", 1, 32}, stop_at, x.data(), 32));
    CHECK(x.values() == std::vector<float>(32, 1.0f));
    check(cudaMemset(x.data(), 0, 32 * sizeof(float)));
  }
}

TEST_CASE("an error that shows when memory is freed is thrown by the next who waits") {
  {
    const DeviceArray<float> x(32);
    check(cuda::launch({"stop_at", 1, 32}, stop_at, x.data(), 5));
  }
  CHECK_THROWS_AS(cudaDeviceSynchronize(), emulator::KernelError);
  check(cudaDeviceSynchronize());
}

TEST_CASE("an argument of a kernel may be a struct that names its pointers") {
  const auto first = +[](Rows rows, float* out) { out[threadIdx.x] = rows.data[threadIdx.x]; };
  const DeviceArray<float> x(std::vector<float>{5}), y(1);
  check(cuda::launch({"first", 1, 1}, first, Rows{x.data()}, y.data()));
  CHECK(y.values()[0] == 5);
  const float host = 0;
  CHECK_THROWS_AS(cuda::launch({"first", 1, 1}, first, Rows{&host}, y.data()), emulator::KernelError);
}
