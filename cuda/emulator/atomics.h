// CUDA's atomics, for the types that CUDA has them for. They are real atomics, so that ThreadSanitizer knows them as
// such, and relaxed, so that it orders nothing by them: that takes a __threadfence.
#pragma once

#include <cstdint>
#include <type_traits>

#include "collectives.h"

namespace xent::emulator {

template <class T, class... Ts>
concept AnyOf = (std::is_same_v<T, Ts> || ...);

using Atomic64 = unsigned long long;
template <class T>
concept Added = AnyOf<T, int, unsigned, Atomic64, float, double>;
template <class T>
concept Compared = AnyOf<T, int, unsigned, long long, Atomic64>;
template <class T>
concept Masked = AnyOf<T, int, unsigned, Atomic64>;
template <class T>
concept Exchanged = AnyOf<T, int, unsigned, Atomic64, float>;
template <class T>
concept Swapped = AnyOf<T, int, unsigned, Atomic64>;

// Stores f(value) in place of value, and returns value.
template <class T, class F>
T update(T* address, F&& f) {
  note_atomic();
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  Bits* const bits = reinterpret_cast<Bits*>(address);
  Bits before = __atomic_load_n(bits, __ATOMIC_RELAXED);
  for (;;) {
    const Bits after = static_cast<Bits>(to_bits<T>(f(from_bits<T>(before))));
    if (__atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
      return from_bits<T>(before);
  }
}

template <class T>
T wrapping_sum(T a, T b) {
  if constexpr (std::is_same_v<T, int>) return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  else return a + b;
}

}  // namespace xent::emulator

// The second argument is converted to the type of the first: atomicAdd(&unsigned_counter, 1).
template <::xent::emulator::Added T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T old) { return ::xent::emulator::wrapping_sum(old, value); });
}
template <::xent::emulator::Compared T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T old) { return value < old ? value : old; });
}
template <::xent::emulator::Compared T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T old) { return old < value ? value : old; });
}
template <::xent::emulator::Masked T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T old) { return old & value; });
}
template <::xent::emulator::Masked T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T old) { return old | value; });
}
template <::xent::emulator::Exchanged T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T) { return value; });
}
template <::xent::emulator::Swapped T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return ::xent::emulator::update(address, [&](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return ::xent::emulator::update(address, [&](unsigned old) { return old >= last ? 0u : old + 1; });
}
