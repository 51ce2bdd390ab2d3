// Warp collectives: where lanes of a warp wait for each other and exchange values. Shuffles, votes, reductions and
// __syncwarp are all one thing, a meeting: the lanes of a mask bring 64 bits each and see what the others have brought.
#pragma once

#include <cstdint>
#include <string>

#include "site.h"

namespace xent::emulator {

enum class Collective : uint8_t { syncwarp, vote, match, reduce, shuffle, shuffle_up, shuffle_down, shuffle_xor };

struct Exchange {
  const uint64_t* values;  // [32], those of the lanes; valid until this thread waits again
  unsigned lanes;          // that took part
};

// Meets the other lanes of mask. Errors: a mask without the caller's own lane, with lanes that have returned, or lanes
// that come with another collective or from another line. Lanes that never come are a deadlock.
Exchange meet(unsigned mask, Collective kind, uint64_t value, Site site);

// Meets, and returns the value of the lane that `argument` says: an index, a distance or a pattern of bits within
// segments of `width` lanes. Reading a lane that did not take part is an error.
uint64_t shuffle(unsigned mask, Collective kind, uint64_t value, int argument, int width, Site site);

// The lanes of mask whose predicate is true.
unsigned ballot(unsigned mask, bool predicate, Site site);

// The scheduler's side: a block begins; a thread has returned, which it must not while others wait for it.
struct Thread;
struct Meeting;
void clear_warps();
void check_return_in_warp(const Thread& thread);
std::string describe(const Meeting& meeting);

}  // namespace xent::emulator
