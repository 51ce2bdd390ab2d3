// What __threadfence orders, for ThreadSanitizer. In CUDA's words: what a thread did before a fence is seen by another
// after a fence of its own, if between them the first thread did an atomic, and then the second one.
#pragma once

#include <cstddef>

namespace xent::emulator {

// What a thread's fences and atomics in this block come to.
struct Fences {
  char* last = nullptr;  // the token of its last fence, until an atomic has published it
  size_t seen = 0;       // how many tokens had been published when it did its last atomic
  size_t acquired = 0;   // how many of these it has acquired, in fences since
};

void forget_fences();  // a kernel begins
void fence();
void note_atomic();

}  // namespace xent::emulator
