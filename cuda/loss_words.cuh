// LogitWords: 16 bytes of logits as four registers. An array of 16-bit values would take a register for each.
#pragma once

#include <xent/cuda/loss_math.cuh>

namespace xent::cuda {

struct alignas(16) LogitWords {
  unsigned word[4];

  // So many logits are in 16 bytes; k is a constant wherever a loop is unrolled.
  template <class T>
  static constexpr int count = 16 / sizeof(T);

  template <class T>
  __device__ Wide<T> get(int k) const {
    if constexpr (std::is_same_v<T, float>) return __uint_as_float(word[k]);
    else if constexpr (std::is_same_v<T, BFloat16>)
      return __uint_as_float(k % 2 ? word[k / 2] & 0xffff0000u : word[k / 2] << 16);
    else if constexpr (std::is_same_v<T, Float16>)
      return widened(Float16::from_bits(static_cast<uint16_t>(word[k / 2] >> (16 * (k % 2)))));
    else return __longlong_as_double(static_cast<long long>(uint64_t{word[2 * k + 1]} << 32 | word[2 * k]));
  }

  // Of words that are still 0.
  template <class T>
  __device__ void set(int k, Wide<T> x) {
    if constexpr (std::is_same_v<T, float>) {
      word[k] = __float_as_uint(x);
    } else if constexpr (sizeof(T) == 2) {
      word[k / 2] |= static_cast<unsigned>(narrowed<T>(x).bits) << (16 * (k % 2));
    } else {
      const auto bits = static_cast<uint64_t>(__double_as_longlong(x));
      word[2 * k] = static_cast<unsigned>(bits);
      word[2 * k + 1] = static_cast<unsigned>(bits >> 32);
    }
  }

  template <class T>
  __device__ void fill(Wide<T> x) {
    *this = {};
#pragma unroll
    for (int k = 0; k < count<T>; ++k) set<T>(k, x);
  }
};

// Stored past the caches: nobody reads a gradient before the next kernel.
__device__ inline void stream(LogitWords* to, const LogitWords& words) {
#if defined(__CUDA_ARCH__)
  __stcs(reinterpret_cast<uint4*>(to), make_uint4(words.word[0], words.word[1], words.word[2], words.word[3]));
#else
  *to = words;
#endif
}

}  // namespace xent::cuda
