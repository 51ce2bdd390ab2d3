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
std::vector<Fiber*> parked;      // fibers that any thread may take
std::vector<Fiber*> spent;       // under ThreadSanitizer: those whose thread has returned in this kernel
std::vector<uint32_t> in_order;  // all threads, the first to run last
std::vector<uint32_t> fresh, ready;
Shuffler shuffler(0);
bool shuffled = false;
const char* kernel = "";
const std::function<void()>* kernel_body = nullptr;
std::string error;
// Tokens: what the host did before a block began is seen by its threads, and what they did before they returned by
// whoever waits for the kernel.
char begun, all_returned;

// To ThreadSanitizer a fiber is a thread, and beginning one takes it long. One that has ended may be used again by a
// later kernel, which is ordered after this one; but in the same kernel only after it has been made anew.
constexpr size_t most_fibers = finds_races ? 4096 : 1024;

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
  if (parked.empty() && fibers.size() < most_fibers)
    return fibers.emplace_back(std::make_unique<Fiber>(run_threads)).get();
  std::vector<Fiber*>& from = parked.empty() ? spent : parked;
  Fiber* const fiber = from.back();
  from.pop_back();
  if (&from == &spent) fiber->rewind();
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
    acquire(&begun);
    (*kernel_body)();
    Thread& thread = self();
    thread.state = Thread::State::returned;
    ++block.returned;
    check_return_in_barrier();
    check_return_in_warp(thread);
    release(&all_returned);
    Fiber* const fiber = std::exchange(thread.fiber, nullptr);
    if constexpr (finds_races) {
      spent.push_back(fiber);
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

// Leaves nothing of a block that has failed. Its threads get a last turn to say, in wait, that all they did is done:
// the host frees what they have used.
void drop_threads() {
  for (Thread& thread : block.threads) {
    if (!thread.fiber) continue;
    const bool waits = thread.state != Thread::State::running && thread.state != Thread::State::returned;
    if (finds_races && waits) switch_to(*thread.fiber);
    thread.fiber->rewind();
    parked.push_back(std::exchange(thread.fiber, nullptr));
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
  for (auto* list : {&parked, &spent}) list->reserve(most_fibers);
  fibers.reserve(most_fibers);
  Fiber::adopt_host();
}

void run_block(const std::function<void()>& body) {
  kernel_body = &body;
  block.returned = 0;
  for (Thread& thread : block.threads) {
    thread.state = Thread::State::fresh;
    thread.fences = {};
  }
  fresh.assign(in_order.begin(), in_order.end());
  ready.clear();
  clear_barrier();
  clear_warps();
  release(&begun);
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
    drop_threads();
    end_blocks();
    throw KernelError(std::exchange(error, {}));
  }
}

void end_blocks() {
  acquire(&all_returned);
  parked.insert(parked.end(), spent.begin(), spent.end());
  spent.clear();
}

void wait(Thread::State state, Site site) {
  Thread& thread = self();
  thread.state = state;
  thread.site = site;
  // A stack that one thread of the kernel made for another would order the two.
  give_turn(finds_races ? nullptr : next_thread());
  if (finds_races && !error.empty()) leave_kernel();
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
