// parallel_for: every index once, exceptions of the lowest chunk, and a pool that survives all of it.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/error.h>
#include <xent/core/parallel.h>

using namespace xent;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int many = 3'000;  // ThreadSanitizer costs a factor of ten and more
#else
constexpr int many = 100'000;
#endif

struct Threads {  // for one test
  explicit Threads(int count) { set_threads(count); }
  ~Threads() { set_threads(before); }
  int before = threads();
};

// Says whether a job over n items visits each once, in ranges of at most `grain` that start at multiples of it.
bool covers(int64_t n, int64_t grain) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
  std::atomic<bool> well_cut = true;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    if (begin % grain != 0 || end <= begin || end - begin > grain || end > n) well_cut = false;
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  return well_cut && std::ranges::all_of(visits, [](const std::atomic<int>& count) { return count == 1; });
}

// The chunk whose exception a job of n chunks throws on, if those from `first` on throw.
int64_t thrown_by(int64_t n, int64_t first) {
  try {
    parallel_chunks(n, [&](int64_t chunk) {
      if (chunk >= first) throw chunk;
    });
  } catch (int64_t chunk) {
    return chunk;
  }
  return -1;
}

}  // namespace

TEST_CASE("every index is visited once, whatever the number of threads") {
  for (const int count : {1, 2, 3, 4, 5}) {
    const Threads threads(count);
    for (const int64_t n : {0, 1, 2, 3, 7, 64, 100, 1001}) {
      for (const int64_t grain : {1, 2, 3, 64, 1000, 5000}) {
        CAPTURE(count);
        CAPTURE(n);
        CAPTURE(grain);
        CHECK(covers(n, grain));
      }
    }
  }
}

TEST_CASE("no items, or fewer than none, are no work") {
  bool called = false;
  parallel_for(0, 16, [&](int64_t, int64_t) { called = true; });
  parallel_for(-5, 16, [&](int64_t, int64_t) { called = true; });
  parallel_chunks(0, [&](int64_t) { called = true; });
  parallel_chunks(-1, [&](int64_t) { called = true; });
  CHECK_FALSE(called);
}

TEST_CASE("the chunks do not depend on the number of threads") {
  std::vector<std::vector<int64_t>> cuts;
  for (const int count : {1, 2, 5}) {
    const Threads threads(count);
    std::vector<int64_t> ends(13, -1);
    parallel_for(100, 8, [&](int64_t begin, int64_t end) { ends[static_cast<size_t>(begin / 8)] = end; });
    cuts.push_back(ends);
  }
  CHECK(cuts[1] == cuts[0]);
  CHECK(cuts[2] == cuts[0]);
  CHECK(cuts[0].back() == 100);
}

TEST_CASE("work is shared among threads") {
  const Threads threads(3);
  // Each chunk waits until all three are being run, which one thread alone could not do.
  std::latch all_there(3);
  std::atomic<int> done = 0;
  parallel_chunks(3, [&](int64_t) {
    all_there.arrive_and_wait();
    ++done;
  });
  CHECK(done == 3);
}

TEST_CASE("the exception of the lowest chunk that threw is thrown on, and the pool works after") {
  for (const int count : {1, 2, 4}) {
    const Threads threads(count);
    for (int round = 0; round < 50; ++round) {
      CHECK(thrown_by(20, 5) == 5);
      CHECK(thrown_by(20, 0) == 0);
      CHECK(thrown_by(20, 19) == 19);
      CHECK(thrown_by(20, 20) == -1);
      CHECK(thrown_by(1, 0) == 0);
    }
    CHECK(covers(1000, 7));
  }
}

TEST_CASE("an exception keeps its type and text") {
  const Threads threads(2);
  CHECK_THROWS_WITH_AS(parallel_chunks(8, [](int64_t chunk) { throw LabelError("chunk " + std::to_string(chunk)); }),
                       "chunk 0", LabelError);
}

TEST_CASE("nested work runs serially, on the same thread and in order") {
  const Threads threads(3);
  std::atomic<bool> serial = true;
  parallel_chunks(8, [&](int64_t) {
    const std::thread::id outer = std::this_thread::get_id();
    int64_t next = 0;
    parallel_chunks(10, [&](int64_t chunk) {
      if (std::this_thread::get_id() != outer || chunk != next++) serial = false;
    });
    if (next != 10) serial = false;
  });
  CHECK(serial);
}

TEST_CASE("an exception of nested work can be caught inside, and the outer work goes on in its chunk") {
  const Threads threads(2);
  std::atomic<int> caught = 0;
  parallel_chunks(6, [&](int64_t) {
    try {
      parallel_chunks(4, [](int64_t) { throw std::runtime_error("inner"); });
    } catch (const std::runtime_error&) {
      ++caught;
    }
    CHECK_THROWS_AS(set_threads(1), ArgumentError);  // still inside a chunk
  });
  CHECK(caught == 6);
}

TEST_CASE("several threads may call at once") {
  const Threads threads(3);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&wrong, t] {
      for (int i = 0; i < many / 500; ++i) {
        if (!covers(100 + t, 3)) ++wrong;
        if (thrown_by(10, t) != t) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("the number of threads may change while the pool is idle") {
  const Threads before(2);
  for (int round = 0; round < 20; ++round) {
    for (const int count : {1, 4, 2, 5, 3}) {
      set_threads(count);
      CHECK(threads() == count);
      CHECK(covers(50, 3));
    }
  }
}

TEST_CASE("the number of threads may change while others compute") {
  const Threads before(2);
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::thread worker([&] {
    while (!stop) wrong += covers(40, 3) ? 0 : 1;
  });
  for (int i = 0; i < 40; ++i) set_threads(1 + i % 5);
  stop = true;
  worker.join();
  CHECK(wrong == 0);
}

TEST_CASE("a number of threads below 1 is refused") {
  const int before = threads();
  CHECK_THROWS_WITH_AS(set_threads(0), "set_threads: 0 is not a number of threads; use 1 or more", ArgumentError);
  CHECK_THROWS_AS(set_threads(-3), ArgumentError);
  CHECK(threads() == before);
}

TEST_CASE("set_threads inside a chunk is refused") {
  const Threads threads(2);
  std::atomic<int> refused = 0;
  parallel_chunks(4, [&](int64_t) {
    try {
      set_threads(3);
    } catch (const ArgumentError&) {
      ++refused;
    }
  });
  CHECK(refused == 4);
}

TEST_CASE("many tiny jobs in a row lose no wake-up") {
  for (const int count : {2, 4}) {
    const Threads threads(count);
    std::atomic<int64_t> sum = 0;
    for (int i = 0; i < many / 2; ++i) {
      parallel_chunks(2 + i % 3, [&](int64_t chunk) { sum.fetch_add(chunk + 1, std::memory_order_relaxed); });
    }
    int64_t expected = 0;
    for (int i = 0; i < many / 2; ++i) {
      const int64_t chunks = 2 + i % 3;
      expected += chunks * (chunks + 1) / 2;
    }
    CHECK(sum == expected);
  }
}

TEST_CASE("jobs that find the workers asleep wake them") {
  const Threads threads(3);
  for (int i = 0; i < 30; ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(20 * i));  // workers spin for some time before they sleep
    std::latch all_there(3);
    parallel_chunks(3, [&](int64_t) { all_there.arrive_and_wait(); });
  }
  CHECK(covers(100, 3));
}

TEST_CASE("what a job wrote is visible to the caller, and what the caller wrote to the job") {
  const Threads threads(4);
  std::vector<int64_t> plain(1000, 0);  // no atomics: ThreadSanitizer would see a missing happens-before
  for (int round = 1; round <= 50; ++round) {
    parallel_for(1000, 10, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) plain[static_cast<size_t>(i)] += i;
    });
  }
  bool right = true;
  for (int64_t i = 0; i < 1000; ++i) right &= plain[static_cast<size_t>(i)] == 50 * i;
  CHECK(right);
}
