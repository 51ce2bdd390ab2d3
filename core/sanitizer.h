// Tells AddressSanitizer which bytes of our own pools may be touched. Empty in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define XENT_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define XENT_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef XENT_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace xent {

inline void forbid_bytes([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#ifdef XENT_ADDRESS_SANITIZER
  __asan_poison_memory_region(data, bytes);
#endif
}

inline void allow_bytes([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#ifdef XENT_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(data, bytes);
#endif
}

}  // namespace xent
