// Where bytes come from: the cache of blocks per device, and the arena of a Step's plan.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/arena.h>
#include <xent/core/memory.h>
#include <xent/core/tensor.h>

using namespace xent;

namespace {

struct Block {
  std::byte* data;
  size_t bytes;
};

// Takes and gives back blocks of many sizes in a random order that the seed decides; returns the addresses taken.
std::vector<std::byte*> play(Arena& arena, unsigned seed, int requests = 400) {
  std::mt19937 random(seed);
  std::vector<std::byte*> addresses;
  std::vector<Block> live;
  for (int i = 0; i < requests; ++i) {
    if (!live.empty() && random() % 5 < 2) {
      const size_t which = random() % live.size();
      arena.give_back(live[which].data, live[which].bytes, arena.generation());
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      const size_t bytes = random() % 20 == 0 ? random() % 3'000'000 : random() % 5'000;
      live.push_back({arena.take(bytes), bytes});
      addresses.push_back(live.back().data);
    }
  }
  return addresses;
}

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 64 == 0; }

size_t live_bytes() { return memory_stats().live_bytes; }

}  // namespace

// ---- buckets ----

TEST_CASE("a bucket is a multiple of 64 bytes that holds the request, at most 1/8 or 63 bytes more") {
  const auto holds = [](size_t bytes) {
    const size_t size = bucket_size(bytes);
    return size >= bytes && size > 0 && size % 64 == 0 && size - bytes <= std::max<size_t>(bytes / 8, 64) &&
           bucket_size(size) == size && bucket_size(bytes + 1) >= size;
  };
  size_t broken = 0;
  for (size_t bytes = 0; bytes < 100'000; ++bytes) broken += holds(bytes) ? 0 : 1;
  for (int shift = 17; shift < 62; ++shift) {
    for (const int64_t offset : {-1, 0, 1, 63, 64, 65})
      broken += holds((size_t{1} << shift) + static_cast<size_t>(offset)) ? 0 : 1;
  }
  CHECK(broken == 0);
}

TEST_CASE("there are eight buckets per doubling") {
  int buckets = 0;
  for (size_t size = bucket_size(1025); size <= 2048; size = bucket_size(size + 1)) ++buckets;
  CHECK(buckets == 8);
}

// ---- the cache ----

TEST_CASE("a released block is handed out again, to a tensor of another shape too") {
  const void* first = Tensor::empty({1000}).raw();
  const MemoryStats before = memory_stats();
  const Tensor again = Tensor::empty({10, 100});
  CHECK(again.raw() == first);
  CHECK(memory_stats().system_calls == before.system_calls);
  CHECK(memory_stats().requests == before.requests + 1);
  CHECK(memory_stats().cached_bytes == before.cached_bytes - bucket_size(4000));
}

TEST_CASE("a loop stops asking the system for memory") {
  const auto iteration = [] {
    std::vector<Tensor> tensors;
    for (const int64_t n : {10, 1000, 30, 70'000, 1000}) tensors.push_back(Tensor::zeros({n}));
  };
  iteration();
  const uint64_t calls = memory_stats().system_calls;
  for (int i = 0; i < 10; ++i) iteration();
  CHECK(memory_stats().system_calls == calls);
}

TEST_CASE("blocks are 64-byte aligned, empty tensors' too") {
  for (const int64_t n : {0, 1, 7, 100, 12345}) CHECK(aligned(Tensor::empty({n}, DType::u8).raw()));
}

TEST_CASE("live and cached bytes follow the tensors") {
  release_cached_memory();
  const size_t before = live_bytes();
  {
    const Tensor x = Tensor::empty({1 << 16});  // a power of two is its own bucket
    const Tensor copy = x, part = x.view({8}, 0);
    CHECK(live_bytes() == before + (1 << 18));
  }
  CHECK(live_bytes() == before);
  CHECK(memory_stats().cached_bytes == 1 << 18);
  release_cached_memory();
  CHECK(memory_stats().cached_bytes == 0);
}

TEST_CASE("the peak is the most that was live since it was reset") {
  reset_peak_memory();
  const size_t before = live_bytes();
  CHECK(memory_stats().peak_live_bytes == before);
  { const Tensor a = Tensor::empty({1 << 16}), b = Tensor::empty({1 << 16}); }
  const Tensor c = Tensor::empty({1 << 16});
  CHECK(memory_stats().peak_live_bytes == before + 2 * (1 << 18));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose allocators end the program instead
TEST_CASE("running out of memory is a DeviceError that says how much was asked for, and nothing is lost") {
  const size_t before = live_bytes();
  CHECK_THROWS_WITH_AS(Tensor::empty({int64_t{1} << 55}, DType::u8),
                       doctest::Contains("36028797018963968 bytes asked for"), DeviceError);
  CHECK(live_bytes() == before);
  CHECK(Tensor::ones({3}).to_vector<float>() == std::vector<float>{1, 1, 1});
}
#endif

TEST_CASE("poisoned fresh memory is NaN in every floating dtype") {
  const bool before = poison_fresh_memory(true);
  Tensor::zeros({4}, DType::f64);  // leaves a block of numbers behind
  CHECK(std::isnan(Tensor::empty({4}).to_vector<float>()[3]));
  CHECK(std::isnan(Tensor::empty({4}, DType::f64).to_vector<double>()[3]));
  CHECK(std::isnan(static_cast<float>(Tensor::empty({4}, DType::f16).to_vector<Float16>()[3])));
  CHECK(std::isnan(static_cast<float>(Tensor::empty({4}, DType::bf16).to_vector<BFloat16>()[3])));
  CHECK(poison_fresh_memory(false));
  CHECK_FALSE(poison_fresh_memory(before));
}

// ---- the arena ----

TEST_CASE("the same requests and releases get the same addresses in every call") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  for (const unsigned seed : {1u, 2u, 3u}) {
    arena->begin_call();
    const std::vector<std::byte*> first = play(*arena, seed);
    for (const unsigned between : {7u, 8u}) {  // calls that do something else leave no trace
      arena->begin_call();
      play(*arena, between, 600);
    }
    arena->begin_call();
    CHECK(play(*arena, seed) == first);
  }
}

TEST_CASE("blocks that are out at the same time do not overlap") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  std::mt19937 random(5);
  std::vector<Block> live;
  for (int call = 0; call < 3; ++call) {
    arena->begin_call();
    live.clear();
    for (int i = 0; i < 200; ++i) {
      const size_t bytes = 1 + random() % 50'000;
      live.push_back({arena->take(bytes), bytes});
      std::memset(live.back().data, i, bytes);
      if (i % 3 == 0) {
        arena->give_back(live.front().data, live.front().bytes, arena->generation());
        live.erase(live.begin());
      }
    }
    std::ranges::sort(live, {}, &Block::data);
    size_t overlaps = 0;
    for (size_t i = 1; i < live.size(); ++i) overlaps += live[i - 1].data + live[i - 1].bytes > live[i].data ? 1 : 0;
    CHECK(overlaps == 0);
    CHECK(std::ranges::all_of(live, aligned, &Block::data));
  }
}

TEST_CASE("a block given back within a call serves the next request of its size") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  std::byte* const a = arena->take(1000);
  arena->give_back(a, 1000, arena->generation());
  CHECK(arena->take(100) != a);
  CHECK(arena->take(1000) == a);
}

TEST_CASE("an arena grows without moving what it has handed out") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  std::byte* const first = arena->take(100);
  std::memset(first, 42, 100);
  const size_t before = arena->bytes();
  for (int i = 0; i < 5; ++i) std::memset(arena->take(2'000'000), i, 2'000'000);
  CHECK(arena->bytes() >= before + 10'000'000);
  CHECK(std::all_of(first, first + 100, [](std::byte b) { return b == std::byte{42}; }));
}

TEST_CASE("an arena asks for memory only in its first call") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  play(*arena, 1);
  const uint64_t requests = memory_stats().requests;
  const size_t bytes = arena->bytes();
  for (int call = 0; call < 5; ++call) {
    arena->begin_call();
    play(*arena, 1);
  }
  CHECK(memory_stats().requests == requests);
  CHECK(arena->bytes() == bytes);
}

TEST_CASE("what an arena keeps stays handed out in later calls") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  std::byte* const kept = arena->take(3'000'000);
  std::memset(kept, 42, 3'000'000);
  arena->keep();
  const std::vector<std::byte*> first = play(*arena, 1);
  for (int call = 0; call < 3; ++call) {
    arena->begin_call();
    CHECK(play(*arena, 1) == first);
    std::memset(arena->take(3'000'000), call, 3'000'000);
  }
  CHECK(std::all_of(kept, kept + 3'000'000, [](std::byte b) { return b == std::byte{42}; }));
}

TEST_CASE("a release that comes a call late is ignored") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  const uint64_t earlier = arena->generation();
  std::byte* const a = arena->take(1000);
  arena->begin_call();
  CHECK(arena->take(1000) == a);
  arena->give_back(a, 1000, earlier);  // a is somebody else's by now
  CHECK(arena->take(1000) != a);
}

TEST_CASE("within an arena's scope new tensors come from it, persistent storage does not") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  CHECK(Arena::current() == nullptr);
  {
    const Arena::Scope scope(*arena);
    CHECK(Tensor::empty({3}).storage()->in_arena());
    CHECK_FALSE(Storage::allocate_persistent(12, Device::cpu())->in_arena());
    const auto inner = std::make_shared<Arena>(Device::cpu());
    {
      const Arena::Scope nested(*inner);
      CHECK(Arena::current() == inner.get());
    }
    CHECK(Arena::current() == arena.get());
  }
  CHECK(Arena::current() == nullptr);
  CHECK_FALSE(Tensor::empty({3}).storage()->in_arena());
}

TEST_CASE("a handle of an earlier call is stale and says what to do") {
  const auto arena = std::make_shared<Arena>(Device::cpu());
  Tensor x, view;
  {
    const Arena::Scope scope(*arena);
    x = Tensor::full({2, 3}, 5);
    view = x.view({3}, 3);
  }
  const Tensor kept = x.clone();
  CHECK(x.to_vector<float>()[5] == 5);
  arena->begin_call();
  CHECK_THROWS_WITH_AS(x.to_vector<float>(),
                       "tensor [2, 3] was made in an earlier call of a Step, which has reused its memory; "
                       ".clone() a result to keep it",
                       ReplayError);
  CHECK_THROWS_AS(view.raw(), ReplayError);
  CHECK_THROWS_AS(x.clone(), ReplayError);
  CHECK_THROWS_AS(x.fill(1), ReplayError);
  CHECK_THROWS_AS(x.str(), ReplayError);
  CHECK(kept.to_vector<float>()[5] == 5);
  CHECK(x.shape() == Shape{2, 3});  // this much is not in the bytes
}

TEST_CASE("a tensor keeps its arena's bytes alive; the last one gives them back") {
  const size_t before = live_bytes();
  Tensor x;
  {
    const auto arena = std::make_shared<Arena>(Device::cpu());
    const Arena::Scope scope(*arena);
    x = Tensor::full({100}, 2);
  }
  CHECK(x.to_vector<float>()[99] == 2);
  CHECK(live_bytes() > before);
  x = Tensor();
  CHECK(live_bytes() == before);
}
