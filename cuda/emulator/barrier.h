// __syncthreads: where all threads of a block wait for each other.
#pragma once

#include "site.h"

namespace xent::emulator {

struct Votes {
  int threads = 0, in_favour = 0;
};

// Waits for all threads of the block, and counts those whose predicate was true. Errors: threads that call it on
// different lines, or that have returned.
Votes block_barrier(bool predicate, Site site);

// The scheduler's side: a block begins; a thread has returned, which it must not while others wait.
void clear_barrier();
void check_return_in_barrier();

}  // namespace xent::emulator
