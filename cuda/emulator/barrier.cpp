#include "barrier.h"

#include "sanitizer.h"
#include "schedule.h"
#include "shared_memory.h"
#include "threads.h"

namespace xent::emulator {
namespace {

struct Barrier {
  Site site;
  Votes now;        // of those who have arrived
  Votes result[2];  // of this generation and the one before, which threads may still have to read
  unsigned generation = 0;
};
Barrier barrier;

}  // namespace

Votes block_barrier(bool predicate, Site site) {
  if (barrier.now.threads == 0) barrier.site = site;
  if (barrier.site != site)
    stop("divergent __syncthreads: this thread is at {}, others wait at {}", site, barrier.site);
  if (block.returned > 0)
    stop("__syncthreads at {}, but {} of {} threads have returned and will not come", site, block.returned,
         block.threads.size());
  const unsigned turn = barrier.generation & 1;
  release(block_token(turn));
  barrier.now.threads += 1;
  barrier.now.in_favour += predicate ? 1 : 0;
  if (static_cast<size_t>(barrier.now.threads) == block.threads.size()) {
    barrier.result[turn] = barrier.now;
    barrier.now = {};
    ++barrier.generation;
    // Woken in the order of the schedule: the last of these is the first to run.
    const size_t count = block.threads.size();
    const bool backward = schedule().order == Order::backward;
    for (size_t i = 0; i < count; ++i) {
      Thread& thread = block.threads[backward ? i : count - 1 - i];
      if (thread.state == Thread::State::in_barrier) wake(thread);
    }
  } else {
    wait(Thread::State::in_barrier, site);
  }
  acquire(block_token(turn));
  return barrier.result[turn];
}

void clear_barrier() {
  barrier.now = {};
  barrier.generation = 0;
}

void check_return_in_barrier() {
  if (barrier.now.threads > 0)
    stop("returns while {} threads wait for it in __syncthreads at {}", barrier.now.threads, barrier.site);
}

}  // namespace xent::emulator
