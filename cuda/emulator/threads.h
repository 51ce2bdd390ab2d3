// The threads of the block that runs, and the loop that gives each its turn. Blocks run one after the other, and of a
// block's threads one runs at a time: until it returns or waits in a barrier or a warp collective.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "builtins.h"
#include "fence.h"
#include "fiber.h"
#include "site.h"

namespace xent::emulator {

struct Meeting;  // warp.cpp: lanes of a warp that wait for each other

struct Thread : Coordinates {
  enum class State : uint8_t { fresh, ready, running, in_barrier, in_warp, returned };
  State state = State::fresh;
  Fiber* fiber = nullptr;      // from its first turn on
  Site site;                   // where it waits
  Meeting* meeting = nullptr;  // what it waits for, in_warp
  Fences fences;               // of this block
};

struct Block {
  std::vector<Thread> threads;  // by linear index, x fastest
  unsigned returned = 0;        // how many of them have
};
extern Block block;

// The thread that runs.
Thread& self();

// Sets up such blocks of a kernel; then run_block runs one of them, or throws KernelError; end_blocks comes after the
// last, and not between two of them: what one block has done is not ordered before what the next one does.
void prepare_blocks(const char* kernel, dim3 extent);
void run_block(const std::function<void()>& body);
void end_blocks();

// Lets other threads run until somebody calls wake(self()).
void wait(Thread::State state, Site site);
void wake(Thread& thread);

// The two steps of stop: strings are done with before the stack is left for good, since nothing on it is ever
// destroyed.
void report(const std::string& what);
[[noreturn]] void leave_kernel();

// Ends the kernel with a KernelError that names kernel, block and thread.
template <class... Args>
[[noreturn]] void stop(fmt::format_string<Args...> text, Args&&... args) {
  report(fmt::format(text, std::forward<Args>(args)...));
  leave_kernel();
}

}  // namespace xent::emulator

template <>
struct fmt::formatter<xent::emulator::Site> : fmt::formatter<std::string> {
  template <class Context>
  auto format(const xent::emulator::Site& site, Context& context) const {
    return fmt::formatter<std::string>::format(site.str(), context);
  }
};
