#include "shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "sanitizer.h"
#include "threads.h"

namespace xent::emulator {
namespace {

constexpr size_t gap = 64, most_arrays = 64;
constexpr size_t arena_bytes = most_shared_bytes + most_static_shared_bytes + (most_arrays + 1) * (gap + 128);

constexpr size_t token_bytes = finds_races ? 8 * block_tokens : 0;

struct Free {
  void operator()(char* begin) const {
    allow(begin, arena_bytes);
    std::free(begin);
  }
};
struct Array {
  const void* key;
  char* data;
  size_t bytes;
};
std::vector<std::unique_ptr<char, Free>> arenas;
char* arena = nullptr;
std::vector<Array> arrays;  // the dynamic one has no key
size_t used = 0, static_bytes = 0;

constexpr size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Never grows a vector: see prepare_blocks.
char* carve(const void* key, size_t bytes, size_t alignment) {
  used = rounded(used, alignment);
  char* const data = arena + used;
  used += rounded(bytes, 16) + gap;
  allow(data, bytes);
  arrays.push_back({key, data, bytes});
  return data;
}

}  // namespace

void begin_shared_memory(size_t dynamic_bytes) {
  const size_t dirty = arena && !finds_races ? used : arena_bytes;
  if (!arena || finds_races) {
    void* const bytes = std::aligned_alloc(256, rounded(arena_bytes + token_bytes, 256));
    if (!bytes) throw std::bad_alloc();
    arena = arenas.emplace_back(static_cast<char*>(bytes)).get();
  }
  allow(arena, arena_bytes);
  std::memset(arena, 0xff, dirty);
  forbid(arena, arena_bytes);
  arrays.clear();
  arrays.reserve(most_arrays + 1);
  used = static_bytes = 0;
  if (dynamic_bytes > 0) carve(nullptr, dynamic_bytes, 128);
}

void check_shared_memory(const char* kernel) {
  if (checks_addresses) return;  // the access itself has been reported
  for (const Array& array : arrays)
    for (const char* byte = array.data + array.bytes; byte < array.data + rounded(array.bytes, 16) + gap; ++byte)
      if (*byte != '\xff')
        throw KernelError(fmt::format("kernel {}, block ({}, {}, {}): wrote at byte {} of {} shared array of {} bytes",
                                      kernel, block_index.x, block_index.y, block_index.z, byte - array.data,
                                      array.key ? "a" : "the dynamic", array.bytes));
}

void* block_token(size_t index) { return finds_races ? arena + arena_bytes + 8 * index : nullptr; }

void end_shared_memory() {
  if constexpr (!finds_races) return;
  arenas.clear();
  arena = nullptr;
}

void* shared_array(const void* key, size_t bytes, size_t alignment) {
  for (const Array& array : arrays)
    if (array.key == key) return array.data;
  static_bytes += rounded(bytes, 16);
  if (static_bytes > most_static_shared_bytes)
    stop("static shared arrays take {} bytes, of {} that there are", static_bytes, most_static_shared_bytes);
  if (arrays.size() > most_arrays - 1) stop("more than {} shared arrays in one block", most_arrays - 1);
  return carve(key, bytes, alignment);
}

void* dynamic_shared_array() {
  if (arrays.empty() || arrays.front().key) stop("uses dynamic shared memory, but the launch asked for none");
  return arrays.front().data;
}

}  // namespace xent::emulator
