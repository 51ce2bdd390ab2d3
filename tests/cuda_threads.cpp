// Threads that share a device: what one launches, takes or gives back while another waits, or captures.
#include <chrono>
#include <latch>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/fill.h>
#include <xent/core/graph.h>
#include <xent/core/memory.h>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

const Device cuda_device = Device::cuda();

// Trains a layer of its own, in a Step that is recorded and replayed; returns its weights and the last loss.
std::vector<Tensor> train(uint64_t seed) {
  Generator random(seed, cuda_device);
  Linear layer(5, 3, random);
  Adam optimizer(layer.parameters(), {.learning_rate = 0.1});
  const Tensor x = normal_sample({4, 5}, DType::f32, seed).to(cuda_device);
  const Tensor labels = Tensor::from<int64_t>({0, 1, 2, static_cast<int64_t>(seed % 3)}, {4}, cuda_device);
  Step step([&](const Tensor& images, const Tensor& targets) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(layer(images), targets);
    optimizer.step(tape.backward(loss));
    return loss;
  });
  Tensor loss;
  for (int call = 0; call < 8; ++call) loss = step(x, labels);
  return {loss.to(Device::cpu()), layer.weight.to(Device::cpu()), layer.bias.to(Device::cpu())};
}

}  // namespace

TEST_CASE("threads with a Step each have the bits of one after the other") {
  constexpr size_t count = 3;
  std::vector<std::vector<Tensor>> expected(count), got(count);
  for (size_t t = 0; t < count; ++t) expected[t] = train(t);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < count; ++t) threads.emplace_back([&, t] { got[t] = train(t); });
  for (std::thread& thread : threads) thread.join();
  for (size_t t = 0; t < count; ++t)
    for (size_t i = 0; i < 3; ++i) CHECK(same_bits(got[t][i], expected[t][i]));
}

TEST_CASE("while one thread captures, another takes and gives back memory, and what it launches comes after") {
  const Tensor x = Tensor::zeros({3}, DType::f32, cuda_device), y = Tensor::zeros({3}, DType::f32, cuda_device);
  const Tensor one = Tensor::ones({3}, DType::f32, cuda_device);
  const bool poisons = poison_fresh_memory(false);  // which is a launch, and would wait for the end of the capture
  std::thread launches;
  const Graph graph(cuda_device, [&] {
    launch_accumulate(x, one);
    std::thread([] { Tensor::empty({1000}, DType::f32, cuda_device); }).join();
    std::latch begun(1);
    launches = std::thread([&] {
      begun.count_down();
      launch_accumulate(y, one);
    });
    begun.wait();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // time enough for what must not happen
    launch_accumulate(x, one);
  });
  launches.join();
  poison_fresh_memory(poisons);
  graph.launch();
  graph.launch();
  CHECK(x.to_vector<float>() == std::vector<float>{4, 4, 4});
  CHECK(y.to_vector<float>() == std::vector<float>{1, 1, 1});
}
