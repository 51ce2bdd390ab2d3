// Devices: their names, and what a build without CUDA says when it is asked for one.
#include <doctest/doctest.h>

#include <xent/core/device.h>
#include <xent/core/tensor.h>

using namespace xent;

TEST_CASE("a device's name can be parsed back") {
  for (const Device device : {Device::cpu(), Device::cuda(), Device::cuda(7)})
    CHECK(parse_device(device.str()) == device);
  CHECK(parse_device("cuda") == Device::cuda(0));
  CHECK(Device::cpu().str() == "cpu");
  CHECK(Device::cuda(1).str() == "cuda:1");
}

TEST_CASE("parse_device refuses other names") {
  for (const char* text :
       {"", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda: 1", "cuda:99999999999", "cpu:1"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_device(text), DeviceError);
  }
  CHECK_THROWS_WITH_AS(parse_device("tpu"), "unknown device 'tpu': use cpu, cuda or cuda:N", DeviceError);
}

TEST_CASE("the CPU is always available") { CHECK(is_available(Device::cpu())); }

TEST_CASE("there is one CPU") { CHECK_THROWS_AS(Tensor::zeros({2}, DType::f32, {Device::Kind::cpu, 1}), DeviceError); }

#if !defined(XENT_WITH_CUDA)
TEST_CASE("without CUDA, asking for it names the way out") {
  const doctest::Contains text("see docs/cuda.md); use cpu");
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, DType::f32, Device::cuda()),
                       doctest::Contains("cuda:0: xent was built without"), DeviceError);
  CHECK_FALSE(is_available(Device::cuda()));
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, DType::f32, Device::cuda()), text, DeviceError);
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}).to(Device::cuda()), text, DeviceError);
  CHECK_THROWS_WITH_AS(Tensor::from({1}, {1}, Device::cuda()), text, DeviceError);
  CHECK_THROWS_WITH_AS(memory_stats(Device::cuda()), text, DeviceError);
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::f32, Device::cuda(3)), DeviceError);
}
#endif
