#include <xent/core/storage.h>

#include <xent/core/arena.h>
#include <xent/core/memory.h>

namespace xent {

StorageRef Storage::allocate(size_t bytes, Device device) {
  Arena* arena = Arena::current();
  if (!arena) return allocate_persistent(bytes, device);
  Arena& there = arena->on(device);
  return std::make_shared<Storage>(Private{}, there.take(bytes), bytes, device, there.shared_from_this());
}

StorageRef Storage::allocate_persistent(size_t bytes, Device device) {
  return std::make_shared<Storage>(Private{}, cache_take(bytes, device), bytes, device, nullptr);
}

Storage::Storage(Private, std::byte* data, size_t bytes, Device device, std::shared_ptr<Arena> arena)
    : data_(data),
      bytes_(bytes),
      device_(device),
      arena_(std::move(arena)),
      made_in_generation_(arena_ ? arena_->generation() : 0) {}

Storage::~Storage() {
  if (arena_) arena_->give_back(data_, bytes_, made_in_generation_);
  else cache_give_back(data_, bytes_, device_);
}

uint64_t Storage::generation() const { return arena_ ? arena_->generation() : 0; }

}  // namespace xent
