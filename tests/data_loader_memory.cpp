// Loader and memory: it takes none once it is warm, and never writes over what somebody holds.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include <xent/core/storage.h>
#include <xent/nn/loader.h>

#include "data_numbers.h"

using namespace xent;
using namespace data_numbers;

// ---- every operator new of this program counts; not inlined, or GCC takes malloc and delete for a mismatch ----

static std::atomic<int64_t> allocations = 0;

[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new[](size_t bytes) { return operator new(bytes); }
[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto step = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(step, (bytes + step) / step * step)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new[](size_t bytes, std::align_val_t alignment) {
  return operator new(bytes, alignment);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

TEST_CASE("from the second epoch on, no memory is taken at all") {
  const Threads used(2);
  const Numbers data(1000, 784);  // large enough for several threads, and with a last batch of its own size
  Loader loader(data, {.batch = 128, .shuffle = true});
  double sum = 0;
  const auto epoch = [&] {
    for (const Batch& batch : loader) sum += batch.images.data<float>()[0];
  };
  epoch();
  const int64_t before = allocations;
  const MemoryStats stats = memory_stats();
  epoch();
  epoch();
  const int64_t taken = allocations - before;
  CHECK(taken == 0);
  CHECK(memory_stats().requests == stats.requests);
  CHECK(memory_stats().system_calls == stats.system_calls);
  CHECK(sum > 0);
}

TEST_CASE("the counter of the test before counts") {
  const int64_t before = allocations;
  const std::vector<int> some(100, 1);
  CHECK(some[99] == 1);
  CHECK(allocations > before);
}

TEST_CASE("a batch that is kept does not change, and the others are right") {
  const Numbers data(10);
  Loader loader(data, {.batch = 4});
  std::vector<Batch> kept;
  for (int epoch = 0; epoch < 2; ++epoch)
    for (const Batch& batch : loader) kept.push_back(batch);
  REQUIRE(kept.size() == 6);
  for (size_t i = 0; i < kept.size(); ++i) {
    const auto first = static_cast<int64_t>(i % 3) * 4;
    CHECK(kept[i].labels.data<int64_t>()[0] == 100 + first);
    CHECK(kept[i].images.data<float>()[0] == static_cast<float>(first));
  }
}

TEST_CASE("a kept view of a batch does not change either") {
  const Numbers data(4);
  Loader loader(data, {.batch = 2});
  Loader::Iterator at = loader.begin();
  const Tensor second_row = at->images.view({2}, 2);
  ++at;
  CHECK(second_row.to_vector<float>() == std::vector<float>{1.0f, 1.5f});
  CHECK(at->images.to_vector<float>() == std::vector<float>{2.0f, 2.5f, 3.0f, 3.5f});
}

TEST_CASE("a batch that nobody keeps is written over, which its version tells") {
  const Numbers data(4);
  Loader loader(data, {.batch = 2});
  Loader::Iterator at = loader.begin();
  const Storage* bytes = at->images.storage().get();
  const uint64_t version = bytes->version();
  ++at;
  CHECK(at->images.storage().get() == bytes);
  CHECK(bytes->version() > version);
}

TEST_CASE("a copied loader has batches of its own") {
  const Numbers data(6);
  Loader loader(data, {.batch = 2});
  Loader::Iterator at = loader.begin();
  Loader copy = loader;
  CHECK(walk(copy) == labels_in_order(6));
  CHECK(at->labels.to_vector<int64_t>() == std::vector<int64_t>{100, 101});
}
