// parallel_for: cuts work into chunks and runs them on a small pool of threads.
//
//   parallel_for(rows, 64, [&](int64_t begin, int64_t end) { for (int64_t r = begin; r < end; ++r) work(r); });
//
// The chunks depend on the problem only, never on the number of threads, so a kernel whose chunks are independent, or
// whose partial sums are combined in chunk order, gives the same bits for any number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace xent {

// Sets how many threads compute, the caller included. Throws ArgumentError below 1. Threads are started when they are
// first needed. The default is the number of processors.
void set_threads(int count);
int threads();

namespace detail {

using ChunkFunction = void (*)(void* context, int64_t chunk);
void run_chunks(int64_t chunks, ChunkFunction function, void* context);

}  // namespace detail

// Makes parallel_for run serially on this thread while it lives, and so leaves the pool to the others: for a thread
// that works in the background.
class SerialScope {
 public:
  SerialScope();
  ~SerialScope();
  SerialScope(const SerialScope&) = delete;
  SerialScope& operator=(const SerialScope&) = delete;

 private:
  bool before_;
};

// Calls body(chunk) for every chunk in [0, chunks), in any order, some at the same time. An exception of the lowest
// chunk that threw is thrown on. Inside a chunk, and while another thread uses the pool, work runs serially.
template <class Body>
void parallel_chunks(int64_t chunks, Body&& body) {
  if (chunks == 1) {
    body(int64_t{0});
    return;
  }
  using Function = std::remove_reference_t<Body>;
  detail::run_chunks(
      chunks, [](void* context, int64_t chunk) { (*static_cast<Function*>(context))(chunk); },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

// Calls body(begin, end) for consecutive ranges of at most `grain` items, at least one, that cover [0, items).
template <class Body>
void parallel_for(int64_t items, int64_t grain, Body&& body) {
  if (grain < 1) grain = 1;
  const int64_t chunks = (items + grain - 1) / grain;
  parallel_chunks(chunks, [&](int64_t chunk) {
    const int64_t begin = chunk * grain;
    body(begin, begin + grain < items ? begin + grain : items);
  });
}

}  // namespace xent
