#include <xent/core/arena.h>

#include <algorithm>

#include <xent/core/memory.h>
#include <xent/core/sanitizer.h>

namespace xent {

namespace {

constexpr size_t chunk_bytes = size_t{1} << 20;
thread_local Arena* current_arena = nullptr;

}  // namespace

Arena::~Arena() {
  for (const Chunk& chunk : chunks_) {
    if (device_ == Device::cpu()) allow_bytes(chunk.data, chunk.bytes);
    cache_give_back(chunk.data, chunk.bytes, device_);
  }
}

Arena& Arena::on(Device device) {
  if (device == device_) return *this;
  for (const auto& other : others_)
    if (other->device_ == device) return *other;
  return *others_.emplace_back(std::make_shared<Arena>(device));
}

void Arena::begin_call() {
  for (const auto& other : others_) other->begin_call();
  std::scoped_lock lock(mutex_);
  generation_.fetch_add(1, std::memory_order_acq_rel);
  chunk_ = kept_chunk_;
  used_ = kept_used_;
  for (auto& [size, blocks] : free_) blocks.clear();  // keeps the lists' own memory
}

void Arena::keep() {
  for (const auto& other : others_) other->keep();
  std::scoped_lock lock(mutex_);
  kept_chunk_ = chunk_;
  kept_used_ = used_;
}

std::byte* Arena::take(size_t bytes) {
  std::byte* data = take_block(bucket_size(bytes));
  if (device_ == Device::cpu()) allow_bytes(data, bytes);
  if (poisons_fresh_memory()) memory(device_).fill_bytes(device_.index, data, 0xFF, bytes);
  return data;
}

std::byte* Arena::take_block(size_t size) {
  std::scoped_lock lock(mutex_);
  if (const auto found = free_.find(size); found != free_.end() && !found->second.empty()) {
    std::byte* data = found->second.back();
    found->second.pop_back();
    return data;
  }
  while (chunk_ < chunks_.size() && used_ + size > chunks_[chunk_].bytes) {
    ++chunk_;
    used_ = 0;
  }
  if (chunk_ == chunks_.size()) {
    const size_t fresh = bucket_size(std::max(size, chunk_bytes));
    chunks_.push_back({cache_take(fresh, device_), fresh});
  }
  std::byte* data = chunks_[chunk_].data + used_;
  used_ += size;
  return data;
}

void Arena::give_back(std::byte* data, size_t bytes, uint64_t generation) {
  std::scoped_lock lock(mutex_);
  if (generation != generation_.load(std::memory_order_relaxed)) return;
  try {
    free_[bucket_size(bytes)].push_back(data);
  } catch (const std::bad_alloc&) {  // lost until the next call begins: this may be a destructor, so it must not throw
  }
}

size_t Arena::bytes() const {
  std::scoped_lock lock(mutex_);
  size_t total = 0;
  for (const Chunk& chunk : chunks_) total += chunk.bytes;
  return total;
}

Arena::Scope::Scope(Arena& arena) : outer_(current_arena) { current_arena = &arena; }
Arena::Scope::~Scope() { current_arena = outer_; }
Arena* Arena::current() { return current_arena; }

}  // namespace xent
