// Loader with prefetch: what it hands out is what it hands out without, errors, positions and memory included.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <latch>
#include <limits>
#include <new>
#include <thread>
#include <tuple>
#include <vector>

#include <xent/core/error.h>
#include <xent/core/parallel.h>
#include <xent/core/step.h>
#include <xent/core/storage.h>
#include <xent/nn/loader.h>

#include "data_numbers.h"

using namespace xent;
using namespace data_numbers;

// ---- every operator new of a thread counts for that thread; not inlined, or GCC takes malloc and delete for a
// mismatch

static thread_local int64_t allocations = 0;

[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace {

// Waits up to ten seconds; false means that it never came.
template <class Condition>
bool comes_true(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Numbers that can be told to wait inside get, and that tell who is in there.
struct Slow : Numbers {
  using Numbers::Numbers;
  std::atomic<int64_t> gate = std::numeric_limits<int64_t>::max();  // samples from here on wait
  mutable std::atomic<int> inside = 0, gets = 0;
  mutable std::atomic<int64_t> newest = -1;

  int64_t get(int64_t index, std::span<float> sample) const override {
    ++inside;
    ++gets;
    newest = index;
    while (index >= gate) std::this_thread::yield();
    try {
      const int64_t label = Numbers::get(index, sample);
      --inside;
      return label;
    } catch (...) {
      --inside;
      throw;
    }
  }
};

using Seen = std::tuple<std::vector<int64_t>, std::vector<float>, int64_t, int64_t, int64_t>;

// What two epochs hand out, and the position that goes with each batch.
std::vector<Seen> see(Loader& loader) {
  std::vector<Seen> seen;
  for (int epoch = 0; epoch < 2; ++epoch)
    for (const Batch& batch : loader) {
      const Loader::Position at = loader.position();
      seen.emplace_back(batch.labels.to_vector<int64_t>(), batch.images.to_vector<float>(), batch.index, at.epoch,
                        at.batch);
    }
  return seen;
}

}  // namespace

TEST_CASE("prefetch hands out the same batches, in the same order, at the same positions") {
  for (const int count : {1, 3}) {
    const Threads used(count);
    for (const int64_t samples : {1, 6, 7, 50})
      for (const int64_t batch : {1, 3, 7, 100})
        for (const bool drop : {false, true}) {
          if (drop && samples < batch) continue;
          CAPTURE(samples);
          CAPTURE(batch);
          const Numbers data(samples, 3);
          LoaderOptions options{.batch = batch, .shuffle = true, .seed = 3, .drop_last = drop};
          Loader plain(data, options);
          options.prefetch = true;
          Loader ahead(data, options);
          CHECK(see(ahead) == see(plain));
          ahead.set_position({5, 7, plain.batches() - 1});
          plain.set_position({5, 7, plain.batches() - 1});
          CHECK(see(ahead) == see(plain));
        }
  }
}

TEST_CASE("the next batch is gathered while the caller uses the present one, and only that one") {
  const Slow data(9);
  Loader loader(data, {.batch = 3, .prefetch = true});
  Loader::Iterator at = loader.begin();
  CHECK(comes_true([&] { return data.newest == 5 && data.inside == 0; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(data.gets == 6);
  CHECK(loader.position() == Loader::Position{0, 0, 1});  // handed out, not gathered
  CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{100, 101, 102});
  ++at;
  CHECK(comes_true([&] { return data.gets == 9; }));
  CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{103, 104, 105});
}

TEST_CASE("without prefetch nothing is gathered early") {
  const Slow data(9);
  Loader loader(data, {.batch = 3});
  loader.begin();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(data.gets == 3);
}

TEST_CASE("an exception inside get arrives where it would without, and the position stays") {
  for (const bool prefetch : {false, true}) {
    CAPTURE(prefetch);
    Numbers data(12);
    data.broken = 7;
    Loader loader(data, {.batch = 3, .prefetch = prefetch});
    Loader::Iterator at = loader.begin();
    ++at;  // with prefetch the broken batch is under way from here on
    CHECK(at->index == 1);
    CHECK_THROWS_WITH_AS(++at, "sample is broken", std::domain_error);
    CHECK(loader.position() == Loader::Position{0, 0, 2});
    CHECK_THROWS_WITH_AS(++at, "sample is broken", std::domain_error);  // tried again, and still broken
    data.broken = -1;
    ++at;
    CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{106, 107, 108});
    ++at;
    CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{109, 110, 111});
    data.broken = 0;
    CHECK_THROWS_AS(loader.begin(), std::domain_error);
    data.broken = -1;
    CHECK(walk(loader) == labels_in_order(12));
  }
}

TEST_CASE("an exception in a batch that nobody comes for is lost") {
  Numbers data(6);
  data.broken = 4;
  Loader loader(data, {.batch = 3, .prefetch = true});
  for ([[maybe_unused]] const Batch& batch : loader) break;
  data.broken = -1;
  CHECK(walk(loader) == labels_in_order(6));
}

TEST_CASE("a loop may be left while the thread works, by break or exception, and the next epoch is whole") {
  Slow data(60);
  Loader loader(data, {.batch = 4, .shuffle = true, .seed = 2, .prefetch = true}),
      plain(data, {.batch = 4, .shuffle = true, .seed = 2});
  for ([[maybe_unused]] const Batch& batch : loader) break;
  CHECK_THROWS_AS(
      [&] {
        for (const Batch& batch : loader)
          if (batch.index == 2) throw std::domain_error("the step failed");
      }(),
      std::domain_error);
  CHECK(loader.position() == Loader::Position{2, 2, 0});
  plain.set_epoch(2);
  CHECK(walk(loader) == walk(plain));
}

TEST_CASE("set_position and set_epoch wait for the thread, and what it gathered is not handed out") {
  Slow data(8);
  Loader loader(data, {.batch = 2, .prefetch = true});
  data.gate = 2;
  loader.begin();
  REQUIRE(comes_true([&] { return data.inside == 1; }));
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    data.gate = 100;
  });
  loader.set_position({0, 0, 3});
  CHECK(data.inside == 0);
  opener.join();
  CHECK(walk(loader) == std::vector<int64_t>{106, 107});
  loader.begin();
  loader.set_epoch(4);
  CHECK(data.inside == 0);
  CHECK(loader.position() == Loader::Position{0, 4, 0});
  CHECK(walk(loader) == labels_in_order(8));
}

TEST_CASE("destruction waits for the thread") {
  Slow data(8);
  data.gate = 2;
  std::thread opener;
  {
    Loader loader(data, {.batch = 2, .prefetch = true});
    loader.begin();
    REQUIRE(comes_true([&] { return data.inside == 1; }));
    opener = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      data.gate = 100;
    });
  }
  CHECK(data.inside == 0);
  opener.join();
}

TEST_CASE("a loader may be copied, moved and assigned to while its thread works, and each has batches of its own") {
  const Numbers data(10), others(6);
  const LoaderOptions options{.batch = 2, .prefetch = true};
  Loader loader(data, options);
  Loader::Iterator at = loader.begin();
  Loader copy = loader;
  CHECK(loader.position() == Loader::Position{0, 0, 1});
  CHECK(copy.position() == Loader::Position{0, 1, 0});  // the loop is not the copy's
  CHECK(walk(copy) == labels_in_order(10));
  Loader moved = std::move(loader);
  CHECK(walk(moved) == labels_in_order(10));
  CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{100, 101});
  ++at;  // a move is a copy: this loop goes on
  CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{102, 103});

  Loader other(others, options);
  other.begin();
  moved.begin();
  moved = other;
  CHECK(walk(moved) == labels_in_order(6));
  Loader& same = moved;
  moved = same;
  CHECK(walk(moved) == labels_in_order(6));
}

TEST_CASE("a batch that is kept does not change, and the others are right") {
  const Numbers data(10);
  Loader loader(data, {.batch = 4, .prefetch = true});
  std::vector<Batch> kept;
  for (int epoch = 0; epoch < 3; ++epoch)
    for (const Batch& batch : loader) kept.push_back(batch);
  REQUIRE(kept.size() == 9);
  for (size_t i = 0; i < kept.size(); ++i) {
    const auto first = static_cast<int64_t>(i % 3) * 4;
    CHECK(kept[i].labels.data<int64_t>()[0] == 100 + first);
    CHECK(kept[i].images.data<float>()[0] == static_cast<float>(first));
  }
}

TEST_CASE("from the third epoch on the calling thread takes no memory, and nobody asks the cache") {
  const Numbers data(1000, 784);
  Loader loader(data, {.batch = 128, .shuffle = true, .prefetch = true});
  double sum = 0;
  const auto epoch = [&] {
    for (const Batch& batch : loader) sum += batch.images.data<float>()[0];
  };
  epoch();
  epoch();
  const int64_t before = allocations;
  const uint64_t requests = memory_stats().requests;
  epoch();
  epoch();
  const int64_t taken = allocations - before;
  CHECK(taken == 0);
  CHECK(memory_stats().requests == requests);
  CHECK(sum > 0);
  const std::vector<int> some(100, 1);
  CHECK(allocations > before);  // the counter counts
}

TEST_CASE("the thread works serially, and the pool stays with the caller") {
  struct Parallel : Numbers {
    using Numbers::Numbers;
    std::atomic<bool> hold = false;
    mutable std::atomic<bool> holding = false, one_thread = true;

    void gather(std::span<const int64_t> indices, std::span<float> samples, std::span<int64_t> labels) const override {
      const std::thread::id mine = std::this_thread::get_id();
      if (indices[0] > 0)
        parallel_chunks(4, [&](int64_t) {
          if (std::this_thread::get_id() != mine) one_thread = false;
          holding = true;
          while (hold) std::this_thread::yield();
        });
      Numbers::gather(indices, samples, labels);
    }
  };
  const Threads used(2);
  Parallel data(6);
  data.hold = true;
  Loader loader(data, {.batch = 3, .prefetch = true});
  Loader::Iterator at = loader.begin();
  REQUIRE(comes_true([&] { return data.holding.load(); }));  // inside parallel_chunks
  std::atomic<int> met = 0;
  parallel_chunks(2, [&](int64_t) {  // both chunks at once, or neither sees the other
    ++met;
    CHECK(comes_true([&] { return met == 2; }));
  });
  data.hold = false;
  ++at;
  CHECK(data.one_thread);
  CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{103, 104, 105});
}

TEST_CASE("a step of a loop inside a Step is refused, and the loop goes on after it") {
  const Numbers data(6);
  for (const bool prefetch : {false, true}) {
    Loader loader(data, {.batch = 2, .prefetch = prefetch});
    Loader::Iterator at = loader.begin();
    Step begin([&] { loader.begin(); });
    Step next([&] { ++at; });
    CHECK_THROWS_WITH_AS(begin(),
                         "a loop over a Loader inside a Step would freeze the value of this call; walk over it "
                         "outside, and pass the batch as inputs",
                         ReplayError);
    CHECK_THROWS_AS(next(), ReplayError);
    ++at;
    CHECK(at->index == 1);
  }
}
