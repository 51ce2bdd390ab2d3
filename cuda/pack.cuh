// Pack: 16 bytes of elements, what one thread reads or writes at once where addresses allow it.
//
//   const int64_t packs = packs_in<T>(count, {x, y});   // 0 unless both begin at a multiple of 16 bytes
//   for (int64_t p = first_index(); p < packs; p += grid_stride()) pack(y, p) = pack(x, p);
//   for (int64_t i = packs * Pack<T>::size + first_index(); i < count; i += grid_stride()) y[i] = x[i];
#pragma once

#include <cstdint>
#include <initializer_list>

#include <xent/cuda/call.cuh>

namespace xent::cuda {

template <class T>
struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T values[size];
};

template <class T>
__device__ Pack<T>& pack(T* elements, int64_t index) {
  return reinterpret_cast<Pack<T>*>(elements)[index];
}
template <class T>
__device__ const Pack<T>& pack(const T* elements, int64_t index) {
  return reinterpret_cast<const Pack<T>*>(elements)[index];
}

// Returns how many whole packs `count` elements at these addresses have, if all addresses are multiples of 16.
template <class T>
int64_t packs_in(int64_t count, std::initializer_list<const void*> addresses) {
  for (const void* address : addresses)
    if (reinterpret_cast<uintptr_t>(address) % sizeof(Pack<T>) != 0) return 0;
  return count / Pack<T>::size;
}

// Blocks for a loop over packs that is followed by one over the elements left.
template <class T>
unsigned blocks_for_packs(int64_t packs, int64_t count) {
  const int64_t rest = count - packs * Pack<T>::size;
  return blocks_for(packs > rest ? packs : rest);
}

}  // namespace xent::cuda
