#include "fence.h"

#include <array>

#include "sanitizer.h"
#include "threads.h"

namespace xent::emulator {
namespace {

// A token is an address, and holds what happened before the fence that released it. A fence has one to itself: what its
// thread does later must not count. When they are used up they are used again, which finds less, and nothing wrong.
constexpr size_t most = 1 << 16;
std::array<char, most> tokens;
std::array<char*, most> published;  // by an atomic, in this order
size_t fences = 0, publications = 0;

}  // namespace

void forget_fences() { fences = publications = 0; }

void note_atomic() {
  if constexpr (!finds_races) return;
  Fences& mine = self().fences;
  if (mine.last) {
    published[publications++ % most] = mine.last;
    mine.last = nullptr;
  }
  mine.seen = publications;
}

void fence() {
  if constexpr (!finds_races) return;
  Fences& mine = self().fences;
  for (; mine.acquired < mine.seen; ++mine.acquired) acquire(published[mine.acquired % most]);
  mine.last = &tokens[fences++ % most];
  release(mine.last);
}

}  // namespace xent::emulator
