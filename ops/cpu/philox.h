// philox_words: many blocks of a seed's sequence at once, in vector registers where the machine has them.
//
//   std::array<uint32_t, 4 * philox_group> words;
//   philox_words(seed, first, philox_group, words.data());  // as philox_block(seed, first), (seed, first + 1), ...
#pragma once

#include <cstdint>

namespace xent::cpu {

inline constexpr int64_t philox_group = 16;

// Writes the words of `blocks` blocks, a multiple of philox_group, one block after the other. Numbers of blocks wrap
// around.
void philox_words(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words);

}  // namespace xent::cpu
