// Philox4x32-10 on several blocks side by side, a block to each 64-bit lane: core/random.h has it for one block.
//
// Compiled once per instruction set (philox_avx2.cpp, philox_avx512.cpp). A lane holds 32 bits of the counter; what its
// upper half holds plays no part, since multiplication reads the lower halves only. 0.45 ns per word with AVX-512 and
// 0.65 with AVX2, where one block after the other takes 1.6.
#pragma once

#include <cstdint>
#include <utility>

namespace xent::cpu {

namespace avx2 {
void philox_words(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words);
}  // namespace avx2
namespace avx512 {
void philox_words(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words);
}  // namespace avx512

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int bytes>
struct PhiloxLanes {
  static constexpr int count = bytes / 8;
  typedef uint64_t Vector __attribute__((vector_size(bytes)));
};

// Writes blocks, whose first two words are the lanes of one vector, and whose last two those of another.
template <int bytes, int... lane>
inline void store_blocks(typename PhiloxLanes<bytes>::Vector low, typename PhiloxLanes<bytes>::Vector high,
                         uint32_t* words, std::integer_sequence<int, lane...>) {
  constexpr int count = sizeof...(lane);
  typename PhiloxLanes<bytes>::Vector blocks[2];
#if defined(__clang__) || __GNUC__ >= 12
  blocks[0] = __builtin_shufflevector(low, high, (lane / 2 + lane % 2 * count)...);
  blocks[1] = __builtin_shufflevector(low, high, (count / 2 + lane / 2 + lane % 2 * count)...);
#else
  ((blocks[lane / (count / 2)][lane * 2 % count] = low[lane],
    blocks[lane / (count / 2)][lane * 2 % count + 1] = high[lane]),
   ...);
#endif
  __builtin_memcpy(words, blocks, sizeof blocks);
}

// multiply(a, b) gives the 64-bit products of the lower halves of the lanes of two vectors. Two vectors at a time,
// since each step of a round waits for the one before.
template <int bytes, class Multiply>
inline void philox_lanes(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words, const Multiply& multiply) {
  using Lanes = PhiloxLanes<bytes>;
  using Vector = typename Lanes::Vector;
  constexpr int vectors = 2;
  Vector lane;
  for (int i = 0; i < Lanes::count; ++i) lane[i] = static_cast<uint64_t>(i);
  for (int64_t done = 0; done < blocks; done += vectors * Lanes::count) {
    Vector c0[vectors], c1[vectors], c2[vectors] = {}, c3[vectors] = {};
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      c0[v] = lane + (first + static_cast<uint64_t>(done + v * Lanes::count));
      c1[v] = c0[v] >> 32;
    }
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        const Vector a = multiply(c0[v], Vector{} + uint64_t{0xD2511F53});
        const Vector b = multiply(c2[v], Vector{} + uint64_t{0xCD9E8D57});
        c0[v] = (b >> 32) ^ c1[v] ^ uint64_t { key0 };
        c2[v] = (a >> 32) ^ c3[v] ^ uint64_t { key1 };
        c1[v] = b;
        c3[v] = a;
      }
      key0 += 0x9E3779B9;
      key1 += 0xBB67AE85;
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v)
      store_blocks<bytes>((c0[v] & uint64_t{0xFFFFFFFF}) | c1[v] << 32, (c2[v] & uint64_t{0xFFFFFFFF}) | c3[v] << 32,
                          words + 4 * (done + v * Lanes::count), std::make_integer_sequence<int, Lanes::count>());
  }
}

}  // namespace

}  // namespace xent::cpu
