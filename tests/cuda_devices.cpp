// Several GPUs in one machine: each has memory, a stream, errors and graphs of its own. The emulator checks that a
// kernel is started on the device of its stream, and touches no other's memory.
#include <array>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/fill.h>
#include <xent/cuda/emulator/runtime.h>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

[[maybe_unused]] const bool two_devices = (emulator::set_device_count(2), true);
const Device first = Device::cuda(0), second = Device::cuda(1);

struct Trained {
  Tensor loss, weight;
  size_t launches;
};

// A layer made on the CPU and moved, trained in a Step.
Trained train(Device device) {
  Generator random(1);
  Sequential model(Linear(5, 8, random, Activation::relu), Linear(8, 3, random));
  model.to(device);
  Adam optimizer(model.parameters(), {.learning_rate = 0.1});
  const Tensor x = normal_sample({4, 5}, DType::f32, 1).to(device);
  const Tensor labels = Tensor::from<int64_t>({0, 1, 2, 1}, {4}, device);
  Step step([&](const Tensor& images, const Tensor& targets) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), targets);
    optimizer.step(tape.backward(loss));
    return loss;
  });
  Tensor loss;
  for (int call = 0; call < 5; ++call) loss = step(x, labels);
  const Tensor weight = model.parameters()[0].value;
  CHECK(loss.device() == device);
  CHECK(weight.device() == device);
  return {loss.to(Device::cpu()), weight.to(Device::cpu()), step.runner().launches(std::vector<Tensor>{x, labels})};
}

}  // namespace

TEST_CASE("there are as many devices as the machine has") {
  CHECK(is_available(second));
  CHECK_FALSE(is_available(Device::cuda(2)));
  CHECK_THROWS_WITH_AS(Tensor::zeros({1}, DType::f32, Device::cuda(2)),
                       "cuda:2: this machine has 2 CUDA devices, cuda:0 to cuda:1", DeviceError);
  CHECK_THROWS_AS(Tensor::zeros({1}, DType::f32, Device::cuda(-1)), DeviceError);
}

TEST_CASE("tensors go from one GPU to another, and do not mix") {
  const Tensor x = Tensor::from({1, 2, 3}, {3}, first), y = x.to(second);
  CHECK(y.device() == second);
  CHECK((y + y).to_vector<float>() == std::vector<float>{2, 4, 6});
  CHECK_THROWS_WITH_AS(add(x, y),
                       "add: input 0 f32 [3] is on cuda:0, input 1 f32 [3] on cuda:1; move one with .to(device)",
                       DeviceError);
  x.slice(0, 2).copy_from((y + y).slice(1, 3));
  CHECK(x.to_vector<float>() == std::vector<float>{4, 6, 3});
}

TEST_CASE("a kernel that touches another GPU's memory is found") {
  const Tensor x = Tensor::ones({3}, DType::f32, first), y = Tensor::ones({3}, DType::f32, second);
  CHECK_THROWS_WITH(launch_accumulate(x, y),
                    "kernel accumulate: argument 1 is memory of device 1, and the kernel runs on device 0");
  launch_accumulate(x, x);
  CHECK(x.to_vector<float>() == std::vector<float>{2, 2, 2});
}

TEST_CASE("memory of each GPU is counted by itself") {
  const MemoryStats on_first = memory_stats(first), on_second = memory_stats(second);
  const Tensor x = Tensor::empty({1000}, DType::f32, second);
  CHECK(memory_stats(second).live_bytes == on_second.live_bytes + 4000);
  CHECK(memory_stats(first).requests == on_first.requests);
}

TEST_CASE("a model trains on either GPU to the same bits, one after the other and at once") {
  const Trained expected = train(first);
  CHECK(expected.launches > 0);
  const auto check = [&](const Trained& got) {
    CHECK(same_bits(got.loss, expected.loss));
    CHECK(same_bits(got.weight, expected.weight));
    CHECK(got.launches == expected.launches);
  };
  check(train(second));
  Trained here, there;
  std::thread other([&] { there = train(second); });
  here = train(first);
  other.join();
  check(here);
  check(there);
}

TEST_CASE("a Step that works on both GPUs has a graph on each") {
  const Tensor total = Tensor::zeros({1, 1}, DType::f32, first), other = Tensor::zeros({1, 1}, DType::f32, second);
  Step step([&](const Tensor& x, const Tensor& y) {
    launch_accumulate(total, matmul(x, x));
    launch_accumulate(other, matmul(y, y));
    launch_accumulate(total, x);
    return std::array<Tensor, 2>{total.clone(), other.clone()};
  });
  const Tensor x = Tensor::full({1, 1}, 2, DType::f32, first), y = Tensor::full({1, 1}, 3, DType::f32, second);
  for (int call = 1; call <= 4; ++call) {
    const auto [a, b] = step(x, y);
    CHECK(a.item() == 6 * call);
    CHECK(b.item() == 9 * call);
  }
  CHECK(step.runner().launches(std::vector<Tensor>{x, y}) == 7);
}

TEST_CASE("a bad label is told by who waits for its own GPU") {
  const Tensor logits = Tensor::zeros({2, 3}, DType::f32, second);
  const Tensor loss = softmax_cross_entropy(logits, Tensor::from<int64_t>({0, 7}, {2}, second));
  CHECK(Tensor::ones({1}, DType::f32, first).item() == 1);
  CHECK_THROWS_AS(loss.item(), LabelError);
  CHECK(Tensor::ones({1}, DType::f32, second).item() == 1);
}
