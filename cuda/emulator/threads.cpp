#include "threads.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "barrier.h"
#include "sanitizer.h"
#include "schedule.h"
#include "shared_memory.h"
#include "warp.h"

namespace xent::emulator {

const Coordinates* current = nullptr;
uint3 block_index;
dim3 block_extent, grid_extent;
Block block;

std::string Site::str() const {
  const std::string path = file;
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), line);
}
bool Site::operator==(const Site& other) const {
  return line == other.line && !std::string_view(file).compare(other.file);
}

namespace {

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber*> parked;      // fibers whose thread has returned
std::vector<uint32_t> in_order;  // all threads, the first to run last
std::vector<uint32_t> fresh, ready;
Shuffler shuffler(0);
bool shuffled = false;
const char* kernel = "";
const std::function<void()>* kernel_body = nullptr;
std::string error;
char all_returned;  // a token: what a thread did before it returned is seen by whoever waits for the kernel

uint32_t take(std::vector<uint32_t>& from) {
  if (shuffled) std::swap(from[shuffler.below(from.size())], from.back());
  const uint32_t thread = from.back();
  from.pop_back();
  return thread;
}

// Threads that can go on come before fresh ones: then a kernel whose warps meet but not its block needs 32 stacks.
Thread* next_thread() {
  if (fresh.empty() && ready.empty()) return nullptr;
  const bool go_on = shuffled ? shuffler.below(fresh.size() + ready.size()) < ready.size() : !ready.empty();
  return &block.threads[take(go_on ? ready : fresh)];
}

void run_threads();

Fiber* take_fiber() {
  if (parked.empty()) return fibers.emplace_back(std::make_unique<Fiber>(run_threads)).get();
  Fiber* fiber = parked.back();
  parked.pop_back();
  if constexpr (finds_races) fiber->rewind();
  return fiber;
}

void give_turn(Thread* thread) {
  if (!thread) return switch_to(Fiber::host());
  if (!thread->fiber) thread->fiber = take_fiber();
  thread->state = Thread::State::running;
  current = thread;
  switch_to(*thread->fiber);
}

// The body of every fiber. Where no thread waits, a whole block runs here as a plain loop, without a switch.
void run_threads() {
  for (;;) {
    (*kernel_body)();
    Thread& thread = self();
    thread.state = Thread::State::returned;
    ++block.returned;
    check_return_in_barrier();
    check_return_in_warp(thread);
    release(&all_returned);
    Fiber* const fiber = std::exchange(thread.fiber, nullptr);
    if constexpr (finds_races) {  // a stack is used again only when nobody stands on it
      parked.push_back(fiber);
      switch_to(Fiber::host());
      continue;
    }
    Thread* const next = next_thread();
    if (next && !next->fiber) {
      next->fiber = fiber;
      next->state = Thread::State::running;
      current = next;
      continue;
    }
    parked.push_back(fiber);
    give_turn(next);
  }
}

std::string who_waits() {
  std::map<std::string, int> places;
  for (const Thread& thread : block.threads) {
    if (thread.state == Thread::State::in_barrier) ++places[fmt::format("__syncthreads at {}", thread.site)];
    if (thread.state == Thread::State::in_warp)
      ++places[fmt::format("{} at {}", describe(*thread.meeting), thread.site)];
  }
  std::string text;
  for (const auto& [place, count] : places) text += fmt::format("{}{} in {}", text.empty() ? "" : ", ", count, place);
  return text;
}

// Leaves nothing of a block that has failed: its threads are never resumed.
void drop_threads() {
  for (Thread& thread : block.threads)
    if (Fiber* fiber = std::exchange(thread.fiber, nullptr)) {
      fiber->rewind();
      parked.push_back(fiber);
    }
}

}  // namespace

Thread& self() { return block.threads[current->linear]; }

void prepare_blocks(const char* name, dim3 extent) {
  kernel = name;
  block_extent = extent;
  shuffled = schedule().order == Order::shuffled;
  shuffler = Shuffler(schedule().seed);
  const size_t count = size_t{extent.x} * extent.y * extent.z;
  block.threads.assign(count, {});
  for (uint32_t i = 0; i < count; ++i) {
    Thread& thread = block.threads[i];
    thread.index = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
    thread.linear = i;
    thread.warp = i / 32;
    thread.lane = i % 32;
  }
  in_order.resize(count);
  for (uint32_t i = 0; i < count; ++i)
    in_order[i] = schedule().order == Order::backward ? i : static_cast<uint32_t>(count) - 1 - i;
  // Fibers allocate nothing: what one of them frees and another takes would look like a race.
  fresh.reserve(count);
  ready.reserve(count);
  fibers.reserve(1024);
  parked.reserve(1024);
  Fiber::adopt_host();
}

void run_block(const std::function<void()>& body) {
  kernel_body = &body;
  block.returned = 0;
  for (Thread& thread : block.threads) thread.state = Thread::State::fresh;
  fresh.assign(in_order.begin(), in_order.end());
  ready.clear();
  clear_barrier();
  clear_warps();
  while (error.empty()) {
    Thread* const next = next_thread();
    if (!next) break;
    give_turn(next);
  }
  if (error.empty() && block.returned < block.threads.size())
    error =
        fmt::format("kernel {}, block ({}, {}, {}): deadlock, of {} threads {} wait for others that do not come: {}",
                    kernel, block_index.x, block_index.y, block_index.z, block.threads.size(),
                    block.threads.size() - block.returned, who_waits());
  current = nullptr;
  if (!error.empty()) {
    end_blocks();
    drop_threads();
    throw KernelError(std::exchange(error, {}));
  }
}

void end_blocks() { acquire(&all_returned); }

void wait(Thread::State state, Site site) {
  Thread& thread = self();
  thread.state = state;
  thread.site = site;
  // A stack that one thread of the kernel made for another would order the two.
  give_turn(finds_races ? nullptr : next_thread());
}

void wake(Thread& thread) {
  thread.state = Thread::State::ready;
  ready.push_back(thread.linear);
}

void report(const std::string& what) {
  error = fmt::format("kernel {}, block ({}, {}, {}), thread ({}, {}, {}): {}", kernel, block_index.x, block_index.y,
                      block_index.z, current->index.x, current->index.y, current->index.z, what);
}

void leave_kernel() {
  release(&all_returned);
  for (;;) switch_to(Fiber::host());  // which does not come back
}

}  // namespace xent::emulator
