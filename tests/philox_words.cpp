// Words of many blocks at once against one block after the other. ctest runs it once per instruction set.
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/random.h>
#include <xent/ops/cpu/philox.h>

#include "machine_has_it.h"

using namespace xent;

TEST_CASE("blocks drawn together are those drawn one by one, across the borders of 32 and 64 bits") {
  if (!machine_has_it()) return;
  for (const uint64_t seed : {0ull, 42ull, 0xFEDCBA9876543210ull})
    for (const uint64_t first : {0ull, 3ull, 0xFFFFFFF5ull, 0x123456789ABCDEFull, ~0ull - 5})
      for (const int64_t groups : {0, 1, 2, 5}) {
        const int64_t blocks = groups * cpu::philox_group;
        std::vector<uint32_t> words(static_cast<size_t>(4 * blocks + 1), 7), expected;
        cpu::philox_words(seed, first, blocks, words.data());
        for (int64_t block = 0; block < blocks; ++block)
          for (const uint32_t word : philox_block(seed, first + static_cast<uint64_t>(block))) expected.push_back(word);
        expected.push_back(7);  // what is behind them stays
        CHECK(words == expected);
      }
}
