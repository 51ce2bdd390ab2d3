// emulator_planted BUG: runs a kernel, or a program around one, that has this bug; emulator_finds.cpp looks at what is
// said about it. Those named *_mended are the same without the bug: nothing may be said of them.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <xent/cuda/device.cuh>
#include <xent/cuda/emulator/schedule.h>

#include "emulator_array.h"

using namespace xent;

namespace {

// --- Barriers and warps --------------------------------------------------------------------------------------------

__global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  else __syncthreads();
  out[threadIdx.x] = 0;
}

template <int thread>
__global__ void return_before_barrier(float* out) {
  if (threadIdx.x == thread) return;
  __syncthreads();
  out[threadIdx.x] = 0;
}

__global__ void barrier_against_warp(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  else __syncwarp();
  out[threadIdx.x] = 0;
}

__global__ void shuffle_from_outside(float* out) {
  float value = 1;
  if (threadIdx.x < 16) value += __shfl_xor_sync(0xffffu, value, 16);
  out[threadIdx.x] = value;
}

__global__ void lanes_missing(float* out) {
  float value = 1;
  if (threadIdx.x < 16) value += __shfl_xor_sync(0xffffffffu, value, 1);
  out[threadIdx.x] = value;
}

__global__ void lane_not_in_mask(float* out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 0); }

__global__ void bad_width(float* out) { out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1, 12); }

__global__ void divergent_shuffle(float* out) {
  if (threadIdx.x & 1) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  else out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 2.0f, 1);
}

// --- Races ---------------------------------------------------------------------------------------------------------

template <bool mended>
__global__ void missing_barrier(float* out) {
  XENT_SHARED(float, values, 64);
  values[threadIdx.x] = 1;
  if (mended) __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
}

// i++ where i += blockDim.x was meant: every thread doubles what the others have doubled.
template <bool mended>
__global__ void tail_in_place(float* x, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += mended ? static_cast<int>(blockDim.x) : 1)
    x[i] = x[i] * 2;
}

template <bool mended>
__global__ void two_blocks_one_word(float* sum) {
  XENT_SHARED(float, unused, 1);
  if (threadIdx.x == 0) unused[0] = 0;
  __syncthreads();  // orders the threads of a block, not the blocks
  if (threadIdx.x > 0) return;
  if (mended) atomicAdd(sum, 1.0f);
  else sum[0] += 1;
}

// A shuffle hands on its values; it says nothing of memory.
template <bool mended>
__global__ void shuffle_as_barrier(float* out) {
  XENT_SHARED(float, values, 32);
  values[threadIdx.x] = 1;
  if (mended) __syncwarp();
  const float one = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  out[threadIdx.x] = one + values[threadIdx.x ^ 1];
}

// fence_late: the writer's only fence comes after its atomic, and so orders nothing for who has seen the atomic.
template <bool fence_before, bool fence_after, bool fence_late>
__global__ void last_block(float* partial, unsigned* ticket, float* sum) {
  XENT_SHARED(bool, is_last, 1);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = 1;
    if (fence_before) __threadfence();
    is_last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
    if (fence_late) __threadfence();
  }
  __syncthreads();
  if (!is_last[0] || threadIdx.x > 0) return;
  if (fence_after) __threadfence();
  float total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += partial[i];
  *sum = total;
}

// --- Memory --------------------------------------------------------------------------------------------------------

__global__ void fill_to(float* out, int count) { out[count - 1 - static_cast<int>(threadIdx.x)] = 0; }

__global__ void read_from(const float* x, float* out, int first) {
  out[threadIdx.x] = x[first + static_cast<int>(threadIdx.x)];
}

template <int beyond>
__global__ void shared_out_of_bounds(float* out) {
  XENT_SHARED(float, values, 32);
  values[threadIdx.x + beyond] = 1;
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void misaligned_pack(const float* x, float* out) {
  const float4& pack = *reinterpret_cast<const float4*>(x + 1 + 4 * threadIdx.x);
  out[threadIdx.x] = pack.x + pack.w;
}

__global__ void offset_in_32_bits(int row, int columns, float* out) {
  const int offset = row * columns;
  out[threadIdx.x] = static_cast<float>(offset);
}

__global__ void takes_dynamic(float* out) {
  XENT_DYNAMIC_SHARED(float, buffer);
  buffer[threadIdx.x] = 1;
  out[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void fill(float* out, float value) { out[threadIdx.x] = value; }

__global__ void __launch_bounds__(64) takes_64_threads(float* out) { out[threadIdx.x] = 0; }

// --- Programs around them ------------------------------------------------------------------------------------------

void say(const char* what, cudaError_t error) { std::printf("%s: %s\n", what, cudaGetErrorName(error)); }

template <class... Parameters, class... Arguments>
void run(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, Arguments... arguments) {
  const cudaError_t error = cuda::launch({"planted", blocks, threads}, kernel, arguments...);
  if (error != cudaSuccess) say("launch", error);
  cudaDeviceSynchronize();
}

// A kernel that takes 64 floats.
std::function<void()> on_floats(void (*kernel)(float*), unsigned blocks, unsigned threads) {
  return [=] {
    DeviceArray<float> out(std::vector<float>(64));
    run(kernel, blocks, threads, out.data());
    for (const float value : out.values())
      if (std::isnan(value)) throw std::runtime_error("the result has a NaN: something was read before it was written");
  };
}

template <bool fence_before, bool fence_after, bool fence_late = false>
void run_last_block() {
  DeviceArray<float> partial(4), sum(1);
  DeviceArray<unsigned> ticket(std::vector<unsigned>{0});
  run(last_block<fence_before, fence_after, fence_late>, 4, 32, partial.data(), ticket.data(), sum.data());
}

void launch_limits() {
  DeviceArray<float> out(2048);
  say("too many threads", cuda::launch({"fill", 1, 2048}, fill, out.data(), 0.0f));
  say("too deep a block", cuda::launch({"fill", 1, dim3(1, 1, 65)}, fill, out.data(), 0.0f));
  say("too high a grid", cuda::launch({"fill", dim3(1, 65536), 1}, fill, out.data(), 0.0f));
  say("an empty grid", cuda::launch({"fill", 0u, 1}, fill, out.data(), 0.0f));
  say("launch bounds", cuda::launch({"takes_64_threads", 1, 128, 0, nullptr, 64}, takes_64_threads, out.data()));
  say("much shared memory", cuda::launch({"takes_dynamic", 1, 32, 64 << 10}, takes_dynamic, out.data()));
  cudaFuncSetAttribute(reinterpret_cast<const void*>(takes_dynamic), cudaFuncAttributeMaxDynamicSharedMemorySize,
                       64 << 10);
  say("much shared memory, asked for", cuda::launch({"takes_dynamic", 1, 32, 64 << 10}, takes_dynamic, out.data()));
}

cudaStream_t new_stream() {
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  return stream;
}

void wait_in_capture() {
  const cudaStream_t stream = new_stream();
  cudaGraph_t graph;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  say("wait", cudaStreamSynchronize(stream));
  say("capture", cudaStreamEndCapture(stream, &graph));
}

void allocation_in_capture() {
  const cudaStream_t stream = new_stream();
  cudaGraph_t graph;
  void* memory;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  say("allocation", cudaMalloc(&memory, 4));
  say("capture", cudaStreamEndCapture(stream, &graph));
}

void graph_of_local_variable() {
  const cudaStream_t stream = new_stream();
  DeviceArray<float> out(1);
  const float denominator = 2;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  cudaMemcpyAsync(out.data(), &denominator, sizeof(float), cudaMemcpyHostToDevice, stream);
}

void graph_after_free() {
  const cudaStream_t stream = new_stream();
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  {
    DeviceArray<float> out(32);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    cuda::launch({"fill", 1, 32, 0, stream}, fill, out.data(), 1.0f);
    cudaStreamEndCapture(stream, &graph);
  }
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphLaunch(executable, stream);
  cudaStreamSynchronize(stream);
}

template <bool mended>
void missing_event() {
  const emulator::ScheduleScope scope({emulator::Order::backward, 0});
  const cudaStream_t writer = new_stream(), reader = new_stream();
  DeviceArray<float> from(32), to(32);
  cudaEvent_t written;
  cudaEventCreate(&written);
  cuda::launch({"fill", 1, 32, 0, writer}, fill, from.data(), 1.0f);
  cudaEventRecord(written, writer);
  if (mended) cudaStreamWaitEvent(reader, written, 0);
  cuda::launch({"read_from", 1, 32, 0, reader}, read_from, from.data(), to.data(), 0);
  cudaEventDestroy(written);
  for (const float value : to.values())
    if (value != 1) throw std::runtime_error("the result is not what the other stream has written");
}

const std::map<std::string, std::function<void()>> bugs = {
    {"divergent_barrier", on_floats(divergent_barrier, 1, 32)},
    {"return_before_barrier", on_floats(return_before_barrier<5>, 1, 32)},
    {"return_before_all", on_floats(return_before_barrier<0>, 1, 32)},
    {"barrier_against_warp", on_floats(barrier_against_warp, 1, 32)},
    {"shuffle_from_outside", on_floats(shuffle_from_outside, 1, 32)},
    {"lanes_missing", on_floats(lanes_missing, 1, 32)},
    {"lane_not_in_mask", on_floats(lane_not_in_mask, 1, 32)},
    {"bad_width", on_floats(bad_width, 1, 32)},
    {"divergent_shuffle", on_floats(divergent_shuffle, 1, 32)},
    {"missing_barrier", on_floats(missing_barrier<false>, 1, 64)},
    {"missing_barrier_mended", on_floats(missing_barrier<true>, 1, 64)},
    {"two_blocks_one_word", on_floats(two_blocks_one_word<false>, 2, 2)},
    {"two_blocks_one_word_mended", on_floats(two_blocks_one_word<true>, 2, 2)},
    {"shuffle_as_barrier", on_floats(shuffle_as_barrier<false>, 1, 32)},
    {"shuffle_as_barrier_mended", on_floats(shuffle_as_barrier<true>, 1, 32)},
    {"last_block", run_last_block<false, true>},
    {"last_block_reads", run_last_block<true, false>},
    {"last_block_late", run_last_block<false, true, true>},
    {"last_block_mended", run_last_block<true, true>},
    {"tail_in_place", [] { run(tail_in_place<false>, 1, 64, DeviceArray<float>(64).data(), 7); }},
    {"tail_in_place_mended", [] { run(tail_in_place<true>, 1, 64, DeviceArray<float>(64).data(), 7); }},
    {"host_pointer",
     [] {
       float host = 0;
       run(fill, 1, 1, &host, 1.0f);
     }},
    {"write_beyond", [] { run(fill_to, 1, 8, DeviceArray<float>(13).data(), 14); }},
    {"write_before", [] { run(fill_to, 1, 14, DeviceArray<float>(13).data(), 13); }},
    {"read_beyond", [] { run(read_from, 1, 4, DeviceArray<float>(13).data(), DeviceArray<float>(8).data(), 10); }},
    {"shared_beyond", on_floats(shared_out_of_bounds<2>, 1, 32)},
    {"misaligned_pack",
     [] { run(misaligned_pack, 1, 4, DeviceArray<float>(64).data(), DeviceArray<float>(8).data()); }},
    {"offset_in_32_bits", [] { run(offset_in_32_bits, 1, 1, 70000, 70000, DeviceArray<float>(1).data()); }},
    {"host_reads_device",
     [] {
       const DeviceArray<float> x(64);
       std::printf("%g\n", static_cast<double>(x.data()[3]));
     }},
    {"dynamic_not_asked_for", on_floats(takes_dynamic, 1, 32)},
    {"launch_limits", launch_limits},
    {"wait_in_capture", wait_in_capture},
    {"allocation_in_capture", allocation_in_capture},
    {"graph_of_local_variable", graph_of_local_variable},
    {"graph_after_free", graph_after_free},
    {"missing_event", missing_event<false>},
    {"missing_event_mended", missing_event<true>},
};

}  // namespace

int main(int argc, char** argv) {
  const auto bug = argc == 2 ? bugs.find(argv[1]) : bugs.end();
  if (bug == bugs.end()) {
    for (const auto& [name, program] : bugs) std::printf("%s\n", name.c_str());
    return 2;
  }
  try {
    bug->second();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
  std::printf("done\n");
  return 0;
}
