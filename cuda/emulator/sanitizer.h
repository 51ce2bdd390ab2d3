// What the sanitizers have to be told: which stack runs now, which bytes nobody may touch, and what orders two
// accesses. All of it is empty in a build without them.
#pragma once

#include <cstddef>

extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_bytes);
void __asan_poison_memory_region(const volatile void* begin, size_t bytes);
void __asan_unpoison_memory_region(const volatile void* begin, size_t bytes);
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}

namespace xent::emulator {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool checks_addresses = true;
#elif defined(__has_feature)
inline constexpr bool checks_addresses = __has_feature(address_sanitizer);
#else
inline constexpr bool checks_addresses = false;
#endif

// The build says so: the emulator itself is never instrumented. What it does between two threads must not count as an
// order between them.
#if defined(XENT_EMULATOR_RACES)
inline constexpr bool finds_races = true;
#else
inline constexpr bool finds_races = false;
#endif

// Forbids or allows every access to these bytes.
inline void forbid(const void* begin, size_t bytes) {
  if constexpr (checks_addresses) __asan_poison_memory_region(begin, bytes);
}
inline void allow(const void* begin, size_t bytes) {
  if constexpr (checks_addresses) __asan_unpoison_memory_region(begin, bytes);
}

// What was done before release(token) happens before what is done after a later acquire(token). Any address will do.
inline void release(void* token) {
  if constexpr (finds_races) __tsan_release(token);
}
inline void acquire(void* token) {
  if constexpr (finds_races) __tsan_acquire(token);
}

}  // namespace xent::emulator
