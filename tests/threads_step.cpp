// Several threads each with tapes, Steps and tensors of their own, over one cache of memory and one pool.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <latch>
#include <mutex>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>

#include "replay_mode.h"
#include "small_ops.h"

using namespace xent;
using small::add, small::descend, small::exp, small::mul, small::scale, small::square, small::sum;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int calls = 30;
#else
constexpr int calls = 300;
#endif
constexpr int64_t extent = 300;

// Trains weights from a seed; returns them in the end. Now and then a tensor is large enough for the pool.
std::vector<float> train(int seed) {
  Tensor w = Tensor::full({extent}, 0.1 * seed);
  w.set_requires_grad();
  Step step([&](const Tensor& x) {
    Tape tape;
    const Tensor loss = sum(square(add(exp(mul(x, w)), Tensor::full({extent}, -2))));
    descend(w, tape.backward(loss)[w], 1e-3);
    return loss;
  });
  for (int i = 0; i < calls; ++i) {
    step(Tensor::full({extent}, 0.01 * (i % 7 + seed)));
    if (i % 10 == 0) Tensor::zeros({150'000}).clone();
  }
  return w.to_vector<float>();
}

template <class F>
void on_threads(int count, const F& function) {
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t) threads.emplace_back([&function, t] { function(t); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("models trained on several threads at once get the bits that they get alone") {
  const Mode mode(Replay::on);
  set_threads(3);
  std::vector<std::vector<float>> alone, together(4);
  for (int t = 0; t < 4; ++t) alone.push_back(train(t + 1));
  on_threads(4, [&](int t) { together[static_cast<size_t>(t)] = train(t + 1); });
  CHECK(together == alone);
  CHECK(alone[0] != alone[1]);
}

TEST_CASE("a Step called from two threads at once is an error there, and goes on here") {
  const Mode mode(Replay::on);
  std::latch inside(1), refused(1);
  bool wait = true;
  Step step([&](const Tensor& x) {
    if (wait) {
      inside.count_down();
      refused.wait();
    }
    return square(x);
  });
  float result = 0;
  std::thread first([&] { result = step(Tensor::full({1}, 3)).item<float>(); });
  inside.wait();
  CHECK_THROWS_WITH_AS(step(Tensor::full({1}, 4)), "Step: called from two threads at once; make a Step per thread",
                       ReplayError);
  refused.count_down();
  first.join();
  CHECK(result == 9);
  wait = false;
  for (int i = 0; i < 4; ++i) CHECK(step(Tensor::full({1}, 5)).item() == 25);
}

TEST_CASE("a Step may be called from one thread after another") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  for (int i = 1; i <= 5; ++i) {
    double result = 0;
    on_threads(1, [&](int) { result = step(Tensor::full({1}, i)).item(); });
    CHECK(result == i * i);
  }
}

TEST_CASE("a result may be dropped on another thread while the next call runs") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(add(x, x)); });
  std::mutex mutex;
  Tensor last;
  std::atomic<bool> stop = false;
  std::thread dropper([&] {
    while (!stop) {
      Tensor dropped;
      const std::scoped_lock lock(mutex);
      std::swap(dropped, last);
    }
  });
  for (int i = 0; i < calls; ++i) {
    const Tensor y = step(Tensor::full({100}, i));
    CHECK(y.to_vector<float>()[99] == 4.0f * static_cast<float>(i * i));
    const std::scoped_lock lock(mutex);
    last = y;
  }
  stop = true;
  dropper.join();
}

TEST_CASE("each thread has its own tape") {
  std::atomic<int> wrong = 0;
  on_threads(4, [&](int t) {
    for (int i = 0; i < calls; ++i) {
      const Tensor x = Tensor::full({10}, t);
      Tape tape;
      tape.watch(x);
      if (tape.backward(sum(square(x)))[x].to_vector<float>()[9] != static_cast<float>(2 * t)) ++wrong;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("tensors may be read by several threads, and ids stay unique") {
  const Tensor shared = Tensor::full({1000}, 3);
  std::vector<std::vector<uint64_t>> ids(4);
  std::atomic<int> wrong = 0;
  on_threads(4, [&](int t) {
    for (int i = 0; i < calls; ++i) {
      const Tensor y = square(shared);
      if (y.to_vector<float>()[999] != 9) ++wrong;
      ids[static_cast<size_t>(t)].push_back(y.id());
    }
  });
  CHECK(wrong == 0);
  std::vector<uint64_t> all;
  for (const auto& part : ids) all.insert(all.end(), part.begin(), part.end());
  std::ranges::sort(all);
  CHECK(std::ranges::adjacent_find(all) == all.end());
}

TEST_CASE("the cache of memory serves many threads, also blocks that change hands") {
  const size_t before = memory_stats().live_bytes;
  std::mutex mutex;
  std::vector<Tensor> pile;
  on_threads(4, [&](int t) {
    for (int i = 0; i < calls; ++i) {
      Tensor x = Tensor::full({1 + (i * 37 + t) % 500}, i);
      const std::scoped_lock lock(mutex);
      pile.push_back(x);
      if (pile.size() > 20) pile.erase(pile.begin(), pile.begin() + 10);
    }
  });
  pile.clear();
  CHECK(memory_stats().live_bytes == before);
}
