// Fiber: a stack to run on. One runs at a time; switch_to leaves it where it is and goes on where another was left.
//
//   Fiber fiber(body);          // body never returns: it switches away for good
//   switch_to(fiber);           // runs body until that does switch_to(Fiber::host())
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace xent::emulator {

class Fiber {
 public:
  // Maps a stack with a page below it that nobody may touch. The pages are taken when they are first used.
  explicit Fiber(void (*body)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next switch begin at the top of body, whatever the stack was used for before. Not for the running one.
  void rewind();

  // The stack of the thread that called adopt_host last.
  static Fiber& host();
  static void adopt_host();

  friend void switch_to(Fiber& to);

 private:
  Fiber() = default;
  static void enter();
  void landed();

  void (*body_)() = nullptr;
  const void* bottom_ = nullptr;
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  void* thread_ = nullptr;      // ThreadSanitizer's
#if defined(__x86_64__)
  void* top_ = nullptr;  // where the registers are, while another fiber runs
#else
  ucontext_t context_ = {};
#endif
};

void switch_to(Fiber& to);

}  // namespace xent::emulator
