#include <xent/cuda/context.h>

#include <map>
#include <memory>
#include <new>

#include <xent/core/memory.h>
#include <xent/core/require.h>
#include <xent/cuda/check.h>

namespace xent::cuda {

namespace {

struct Devices {
  int count = 0;
  cudaError_t status = cudaSuccess;
};

const Devices& devices() {
  static const Devices found = [] {
    Devices devices;
    devices.status = cudaGetDeviceCount(&devices.count);
    if (devices.status != cudaSuccess) {
      devices.count = 0;  // it says nothing then
      cudaGetLastError();
    }
    return devices;
  }();
  return found;
}

struct Contexts {
  std::mutex mutex;
  std::map<int, std::unique_ptr<Context>> by_index;
};

Contexts& contexts() {
  static auto& all = *new Contexts;
  return all;
}

}  // namespace

void require_device(int index) {
  const auto [count, status] = devices();
  if (count == 0)
    fail<DeviceError>(
        "cuda:{}: no GPU can be used here: {} ({}). Is NVIDIA's driver installed? Device::cpu() needs none", index,
        cudaGetErrorName(status), cudaGetErrorString(status));
  require<DeviceError>(index >= 0 && index < count, "cuda:{}: this machine has {} CUDA device{}, cuda:0{}", index,
                       count, count == 1 ? "" : "s", count == 1 ? "" : fmt::format(" to cuda:{}", count - 1));
}

int device_count() { return devices().count; }

Context::Context(int index) {
  check(cudaSetDevice(index), "cudaSetDevice");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  void* memory = nullptr;
  check(cudaMalloc(&memory, sizeof(ErrorRecord)), "cudaMalloc");
  errors = static_cast<ErrorRecord*>(memory);
  check(cudaMallocHost(&memory, sizeof(ErrorRecord)), "cudaMallocHost");
  noticed = new (memory) ErrorRecord;
  check(cudaMemsetAsync(errors, 0, sizeof(ErrorRecord), stream), "cudaMemset");
}

Context& context(int index) {
  require_device(index);
  std::scoped_lock lock(contexts().mutex);
  std::unique_ptr<Context>& found = contexts().by_index[index];
  if (!found) found = std::make_unique<Context>(index);
  else check(cudaSetDevice(index), "cudaSetDevice");
  return *found;
}

Context& known_context(int index) noexcept {
  std::scoped_lock lock(contexts().mutex);
  return *contexts().by_index.find(index)->second;
}

void wait(Context& on) {
  std::scoped_lock lock(on.mutex);
  check(cudaMemcpyAsync(on.noticed, on.errors, sizeof(ErrorRecord), cudaMemcpyDeviceToHost, on.stream), "cudaMemcpy");
  check(cudaStreamSynchronize(on.stream), "cudaStreamSynchronize");
  if (on.noticed->kind == ErrorRecord::Kind::none) return;
  check(cudaMemsetAsync(on.errors, 0, sizeof(ErrorRecord), on.stream), "cudaMemset");
  throw_error(*on.noticed);
}

}  // namespace xent::cuda
