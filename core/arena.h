// Arena: the memory of one plan of a Step.
//
// Blocks are cut from chunks in order and, once released, reused through a free list per size. begin_call() puts all
// of that back to the same state, so a call that makes the same requests and releases gets the same addresses: the
// launches noted during one call are a valid plan for the next. It grows by adding chunks, never by moving one.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <xent/core/storage.h>

namespace xent {

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  explicit Arena(Device device) : device_(device) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Starts a call: forgets every block handed out. Handles of earlier calls are stale from here on.
  void begin_call();

  // Returns the arena for another device of the same calls: this one, or a part of it that is made when first asked for.
  Arena& on(Device device);

  // Makes what is handed out now stay so: begin_call() goes back to here. The slots of a plan's inputs.
  void keep();

  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  std::byte* take(size_t bytes);
  void give_back(std::byte* data, size_t bytes, uint64_t generation);  // of another call: ignored

  size_t bytes() const;  // of all chunks
  Device device() const { return device_; }

  // Makes an arena the source of Storage::allocate on this thread while it lives.
  class Scope {
   public:
    explicit Scope(Arena& arena);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena* outer_;
  };
  static Arena* current();

 private:
  struct Chunk {
    std::byte* data;
    size_t bytes;
  };

  std::byte* take_block(size_t size);

  Device device_;
  std::atomic<uint64_t> generation_ = 1;
  mutable std::mutex mutex_;  // a handle may be dropped on another thread
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;                       // the chunk being cut
  size_t used_ = 0;                        // bytes of it that are cut
  size_t kept_chunk_ = 0, kept_used_ = 0;  // where begin_call() goes back to
  std::map<size_t, std::vector<std::byte*>> free_;
  std::vector<std::shared_ptr<Arena>> others_;  // on other devices
};

}  // namespace xent
