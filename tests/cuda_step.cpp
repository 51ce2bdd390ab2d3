// A Step on CUDA: a graph from the third call on, with the bits of the eager calls, and nothing but input copies and
// one launch on the host's side.
#include <cuda_runtime.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/arena.h>
#include <xent/core/fill.h>
#include <xent/core/graph.h>
#include <xent/core/memory.h>
#include <xent/core/profile.h>
#include <xent/cuda/context.h>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

const Device cuda_device = Device::cuda();

class ReplayScope {
 public:
  explicit ReplayScope(Replay mode) : before_(replay()) { set_replay(mode); }
  ~ReplayScope() { set_replay(before_); }

 private:
  Replay before_;
};

// Some ops of the engine's own: a state is added to, and a cast and a clone are returned.
struct Trial {
  Tensor total = Tensor::zeros({5}, DType::f32, cuda_device);
  Step<std::function<std::array<Tensor, 2>(const Tensor&)>> step{[this](const Tensor& x) -> std::array<Tensor, 2> {
    const Tensor once = x.clone();
    launch_accumulate(once, x);
    launch_accumulate(total, once);
    return {cast(once, DType::f64), total.clone()};
  }};
};

Tensor numbers(float first) {
  return Tensor::from<float>({first, first + 1, first + 2, first + 3, first + 4}, {5}, cuda_device);
}

}  // namespace

TEST_CASE("a graph holds launches until it is launched, and then runs them every time") {
  const Tensor x = Tensor::zeros({3}, DType::f32, cuda_device), one = Tensor::ones({3}, DType::f32, cuda_device);
  const Graph graph(cuda_device, [&] { launch_accumulate(x, one); });
  CHECK(x.to_vector<float>() == std::vector<float>{0, 0, 0});
  graph.launch();
  graph.launch();
  CHECK(x.to_vector<float>() == std::vector<float>{2, 2, 2});
}

TEST_CASE("a graph of a kernel that waits, or takes memory, is refused, and the device works on") {
  const Tensor x = Tensor::ones({3}, DType::f32, cuda_device);
  CHECK_THROWS_WITH_AS(Graph(cuda_device, [] { memory(cuda_device).wait(0); }),
                       doctest::Contains("cudaErrorStreamCaptureUnsupported"), DeviceError);
  const auto allocate_anyway = [&] {
    void* memory = nullptr;
    cudaMalloc(&memory, 64);
  };
  CHECK_THROWS_WITH_AS(Graph(cuda_device, allocate_anyway), doctest::Contains("cannot be part of a graph"),
                       DeviceError);
  struct Own {};
  CHECK_THROWS_AS(Graph(cuda_device, [] { throw Own(); }), Own);
  CHECK_THROWS_AS(Graph(Device::cpu(), [] {}), DeviceError);
  CHECK(x.clone().to_vector<float>() == std::vector<float>{1, 1, 1});
}

TEST_CASE("eager, recorded and replayed calls have the same bits, in every order and mode") {
  std::optional<std::vector<Tensor>> expected;
  for (const Replay mode : {Replay::off, Replay::on, Replay::verify}) {
    const ReplayScope scope(mode);
    const std::vector<Tensor> now = in_every_order([] {
      Trial trial;
      std::vector<Tensor> results;
      for (int call = 0; call < 14; ++call)
        for (const Tensor& result : trial.step(numbers(static_cast<float>(call)))) results.push_back(result.clone());
      return results;
    });
    if (!expected) expected = now;
    for (size_t i = 0; i < now.size(); ++i) CHECK(same_bits(now[i], (*expected)[i]));
  }
  CHECK((*expected)[0].to_vector<double>() == std::vector<double>{0, 2, 4, 6, 8});
  CHECK((*expected)[27].to_vector<float>()[0] == 2 * 13 * 14 / 2);
}

TEST_CASE("a replayed call takes no memory, does not run the function, and launches all at once") {
  const ReplayScope scope(Replay::on);
  int calls = 0;
  const Tensor total = Tensor::zeros({5}, DType::f32, cuda_device);
  Step step([&](const Tensor& x) {
    ++calls;
    launch_accumulate(total, x);
    return total.clone();
  });
  const Tensor x = numbers(1);
  for (int call = 0; call < 2; ++call) step(x);
  const MemoryStats before = memory_stats(cuda_device);
  for (int call = 0; call < 5; ++call) step(x);
  CHECK(memory_stats(cuda_device).requests == before.requests);
  CHECK(calls == 2);
  CHECK(total.to_vector<float>()[4] == 35);
}

TEST_CASE("a Step without inputs has its memory on the device of what it works on") {
  const ReplayScope scope(Replay::on);
  const Tensor x = numbers(0);
  Step step([&] {
    const Tensor y = x.clone();
    launch_accumulate(x, y);
    return y;
  });
  std::vector<float> last;
  for (int call = 0; call < 5; ++call) {
    const Tensor y = step();
    CHECK(y.storage()->in_arena());
    last = y.to_vector<float>();
  }
  CHECK(last == std::vector<float>{0, 16, 32, 48, 64});
  CHECK(x.to_vector<float>() == std::vector<float>{0, 32, 64, 96, 128});
}

TEST_CASE("a Step that works on both devices replays both") {
  const ReplayScope scope(Replay::on);
  const Tensor here = Tensor::zeros({5}), there = Tensor::zeros({5}, DType::f32, cuda_device);
  Step step([&](const Tensor& x, const Tensor& y) {
    launch_accumulate(here, x);
    launch_accumulate(there, y);
    return std::array<Tensor, 2>{here.clone(), there.clone()};
  });
  for (int call = 1; call <= 5; ++call) {
    const auto [x, y] = step(numbers(1).to(Device::cpu()), numbers(2));
    CHECK(x.to_vector<float>()[0] == static_cast<float>(call));
    CHECK(y.to_vector<float>()[0] == static_cast<float>(2 * call));
  }
}

TEST_CASE("a call that throws leaves no half plan, and the next one works") {
  const ReplayScope scope(Replay::on);
  struct Own {};
  bool fails = false;
  const Tensor total = Tensor::zeros({5}, DType::f32, cuda_device);
  Step step([&](const Tensor& x) {
    launch_accumulate(total, x);
    if (fails) throw Own();
    return total.clone();
  });
  const Tensor one = Tensor::ones({5}, DType::f32, cuda_device);
  step(one);
  fails = true;
  CHECK_THROWS_AS(step(one), Own);  // the call that would have been recorded
  fails = false;
  for (int call = 3; call < 7; ++call) CHECK(step(one).to_vector<float>()[0] == static_cast<float>(call));
  CHECK(step.runner().launches(std::vector<Tensor>{one}) == 2);
}

TEST_CASE("inside a Step no value comes from the device, and none goes there") {
  Step reads([](const Tensor& x) { return Tensor::full({}, x.slice(0, 1).item(), DType::f32, cuda_device); });
  CHECK_THROWS_AS(reads(numbers(0)), ReplayError);
  Step moves([](const Tensor& x) { return x.to(Device::cpu()); });
  CHECK_THROWS_AS(moves(numbers(0)), ReplayError);
  Step makes([](const Tensor&) { return Tensor::from({1}, {1}, cuda_device); });
  CHECK_THROWS_AS(makes(numbers(0)), ReplayError);
}

TEST_CASE("a Profile on CUDA measures eager and replayed calls, and changes no bits") {
  const ReplayScope scope(Replay::on);
  Trial plain, measured;
  for (int call = 0; call < 5; ++call) {
    const auto expected = plain.step(numbers(static_cast<float>(call)));
    const Profile profile;
    const auto got = measured.step(numbers(static_cast<float>(call)));
    int64_t launches = 0;
    for (const Profile::Row& row : profile.rows()) launches += row.launches;
    CHECK(launches == 6);  // the function's five, and the copy of the input
    for (size_t i = 0; i < 2; ++i) CHECK(same_bits(got[i].to(Device::cpu()), expected[i].to(Device::cpu())));
  }
}

TEST_CASE("a plan's graph and memory end with the Step, also while work is queued") {
  const Tensor total = Tensor::zeros({5}, DType::f32, cuda_device);
  {
    const ReplayScope scope(Replay::on);
    Step step([&](const Tensor& x) { launch_accumulate(total, x.clone()); });
    for (int call = 0; call < 4; ++call) step(numbers(0));
  }
  CHECK(total.to_vector<float>() == std::vector<float>{0, 4, 8, 12, 16});
}
