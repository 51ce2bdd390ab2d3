// A machine without a GPU's driver, where CUDA answers every question with error 35: all that asks for cuda is told so,
// and the CPU works.
#include <cuda_runtime.h>

#include <doctest/doctest.h>

#include <xent/xent.h>

using namespace xent;

// The linker sends calls of cudaGetDeviceCount here.
extern "C" cudaError_t __wrap_cudaGetDeviceCount(int*) { return cudaErrorInsufficientDriver; }

TEST_CASE("without a driver every way to a GPU is a DeviceError that says so") {
  constexpr const char* text =
      "cuda:0: no GPU can be used here: cudaErrorInsufficientDriver (cudaErrorInsufficientDriver). Is NVIDIA's driver "
      "installed? Device::cpu() needs none";
  const Device cuda = Device::cuda();
  const Tensor x = Tensor::zeros({2});
  CHECK_FALSE(is_available(cuda));
  CHECK_THROWS_WITH_AS(Tensor::empty({2}, DType::f32, cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, DType::f32, cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(Tensor::from({1}, {1}, cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(x.to(cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(Generator(1, cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(memory_stats(cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(release_cached_memory(cuda), text, DeviceError);
  CHECK_THROWS_WITH_AS(reset_peak_memory(cuda), text, DeviceError);
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::f32, Device::cuda(3)), DeviceError);
}

TEST_CASE("without a driver the CPU is there") {
  CHECK(is_available(Device::cpu()));
  CHECK(sum(Tensor::ones({3})).item() == 3);
}
