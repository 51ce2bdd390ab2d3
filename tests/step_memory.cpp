// A replay allocates nothing: neither C++ objects nor tensors. This program counts every operator new.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/step.h>
#include <xent/core/tape.h>

#include "replay_mode.h"
#include "small_ops.h"

using namespace xent;
using small::add, small::descend, small::exp, small::mul, small::scale, small::square, small::sum;

namespace {

std::atomic<uint64_t> news = 0;

void* counted(size_t bytes) {
  news.fetch_add(1, std::memory_order_relaxed);
  if (void* data = std::malloc(bytes ? bytes : 1)) return data;
  throw std::bad_alloc();
}

struct Counts {
  uint64_t news = ::news, requests = memory_stats().requests, system_calls = memory_stats().system_calls;
  bool operator==(const Counts&) const = default;
};

// A training step with an input, a captured parameter, views, several results, and shapes of rank 3.
auto make_step(Tensor& w) {
  return Step([&w](const Tensor& x) {
    Tape tape;
    const Tensor hidden = exp(scale(mul(small::flat(x), w), 0.1));
    const Tensor loss = sum(square(add(hidden, small::flat(x))));
    const Gradients gradients = tape.backward(loss);
    descend(w, gradients[w], 1e-4);
    return std::pair(loss, gradients[w]);
  });
}

}  // namespace

void* operator new(size_t bytes) { return counted(bytes); }
void* operator new[](size_t bytes) { return counted(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t) noexcept { std::free(data); }

TEST_CASE("a replay allocates nothing") {
  const Mode mode(Replay::on);
  Tensor w = Tensor::full({60}, 0.5);
  w.set_requires_grad();
  auto step = make_step(w);
  const Tensor x = Tensor::full({3, 4, 5}, 0.25);
  for (int i = 0; i < 3; ++i) step(x);
  const Counts before;
  for (int i = 0; i < 10; ++i) step(x);
  CHECK(Counts() == before);
}

TEST_CASE("the counter counts: the recorded call does allocate") {
  const Mode mode(Replay::on);
  Tensor w = Tensor::full({60}, 0.5);
  w.set_requires_grad();
  auto step = make_step(w);
  const Tensor x = Tensor::full({3, 4, 5}, 0.25);
  step(x);
  const Counts before;
  step(x);
  CHECK(Counts().news > before.news);
}

TEST_CASE("also when the function runs, a Step's tensors come from its plan") {
  const Mode mode(Replay::off);
  Tensor w = Tensor::full({60}, 0.5);
  w.set_requires_grad();
  auto step = make_step(w);
  const Tensor x = Tensor::full({3, 4, 5}, 0.25);
  step(x);
  const Counts before;
  for (int i = 0; i < 10; ++i) step(x);
  CHECK(Counts().requests == before.requests);
}

TEST_CASE("a plan reuses the bytes of tensors that were dropped within the call") {
  const Mode mode(Replay::on);
  const size_t before = memory_stats().live_bytes;
  Step step([](const Tensor& x) {
    Tensor y = x;
    for (int i = 0; i < 50; ++i) y = scale(y, 1.01);
    return y;
  });
  const Tensor x = Tensor::ones({1 << 18});  // 1 MiB
  for (int i = 0; i < 4; ++i) step(x);
  CHECK(memory_stats().live_bytes - before <= 5 * (size_t{1} << 20));  // x, its slot, two in turn
}

TEST_CASE("a Step that ends gives all its memory back") {
  const Mode mode(Replay::on);
  const size_t before = memory_stats().live_bytes;
  {
    Tensor w = Tensor::full({60}, 0.5);
    w.set_requires_grad();
    auto step = make_step(w);
    for (int i = 0; i < 4; ++i) step(Tensor::full({3, 4, 5}, 0.25));
    CHECK(memory_stats().live_bytes > before);
  }
  CHECK(memory_stats().live_bytes == before);
}
