#include "fiber.h"

#include <sys/mman.h>

#include <new>

#include "sanitizer.h"

namespace xent::emulator {
namespace {

constexpr size_t guard_bytes = 4096;
// ThreadSanitizer's shadow of a stack is reset for every thread of a kernel; the smaller the better.
constexpr size_t stack_bytes = finds_races ? 64 << 10 : 256 << 10;

Fiber* running = nullptr;

}  // namespace

#if defined(__x86_64__)

// Pushes what a function call must preserve, stores the stack pointer in *save, takes the other one and pops. Five
// times as fast as swapcontext, which asks the kernel for the signal mask twice.
extern "C" void xent_emulator_swap(void** save, void* load);
asm(R"(
.text
.globl xent_emulator_swap
.type xent_emulator_swap, @function
xent_emulator_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size xent_emulator_swap, .-xent_emulator_swap
)");

#endif

Fiber::Fiber(void (*body)()) : body_(body), bytes_(stack_bytes) {
  void* mapped = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  mprotect(mapped, guard_bytes, PROT_NONE);
  bottom_ = static_cast<char*>(mapped) + guard_bytes;
  rewind();
}

Fiber::~Fiber() {
  if (!body_) return;  // the host's stack is not ours
  if constexpr (finds_races) __tsan_destroy_fiber(thread_);
  munmap(static_cast<char*>(const_cast<void*>(bottom_)) - guard_bytes, guard_bytes + bytes_);
}

void Fiber::rewind() {
  char* const bottom = static_cast<char*>(const_cast<void*>(bottom_));
  allow(bottom, bytes_);
  fake_stack_ = nullptr;
  if constexpr (finds_races) {  // pages mapped anew have no history of accesses, a new fiber has none of orders
    mmap(bottom, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (thread_) __tsan_destroy_fiber(thread_);
    thread_ = __tsan_create_fiber(0);
  }
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(bottom + bytes_);
  *--top = nullptr;  // stands where a caller's address would: a stack is a multiple of 16 bytes before a call
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  top_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = bottom;
  context_.uc_stack.ss_size = bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::enter, 0);
#endif
}

Fiber& Fiber::host() {
  static Fiber host;
  return host;
}

void Fiber::adopt_host() {
  host().bottom_ = nullptr;
  if constexpr (finds_races) host().thread_ = __tsan_get_current_fiber();
  running = &host();
}

void Fiber::enter() {
  running->landed();
  running->body_();
}

// The first switch after adopt_host comes from the host, and so tells where its stack is.
void Fiber::landed() {
  if constexpr (checks_addresses) {
    const void* bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(fake_stack_, &bottom, &bytes);
    if (!host().bottom_) {
      host().bottom_ = bottom;
      host().bytes_ = bytes;
    }
  }
}

void switch_to(Fiber& to) {
  Fiber& from = *running;
  running = &to;
  if constexpr (finds_races) __tsan_switch_to_fiber(to.thread_, 1);  // 1: a switch is no order between two threads
  if constexpr (checks_addresses) __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.bytes_);
#if defined(__x86_64__)
  xent_emulator_swap(&from.top_, to.top_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
  from.landed();
}

}  // namespace xent::emulator
