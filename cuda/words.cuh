// Words: how bytes are copied whose meaning does not matter: in the largest pieces that addresses and sizes allow.
//
//   dispatch_word(word_size({width, stride, address_of(x), address_of(y)}), [&]<class Word>() {
//     start(call, "copy", {blocks_for(width / sizeof(Word))}, copy<Word>, ...);
//   });
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace xent::cuda {

struct alignas(16) Word16 {
  uint64_t halves[2];
};

// Returns the largest of 1, 2, 4, 8 and 16 that all numbers are multiples of.
inline int word_size(std::initializer_list<int64_t> numbers) {
  int bits = 16;
  for (const int64_t number : numbers) bits |= static_cast<int>(number % 16);
  return bits & -bits;
}

inline int64_t address_of(const void* bytes) { return static_cast<int64_t>(reinterpret_cast<uintptr_t>(bytes)); }

// Calls f with a type of so many bytes: 1, 2, 4, 8, or else 16.
template <class F>
decltype(auto) dispatch_word(int bytes, F&& f) {
  switch (bytes) {
    case 1: return f.template operator()<uint8_t>();
    case 2: return f.template operator()<uint16_t>();
    case 4: return f.template operator()<uint32_t>();
    case 8: return f.template operator()<uint64_t>();
    default: return f.template operator()<Word16>();
  }
}

}  // namespace xent::cuda
