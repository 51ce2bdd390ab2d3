#include <xent/ops/cpu/philox.h>

#include <algorithm>

#include <xent/core/random.h>
#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/philox_kernel.h>

namespace xent::cpu {

void philox_words(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words) {
#if defined(XENT_WIDE_KERNELS)
  if (instruction_set() == InstructionSet::avx512) return avx512::philox_words(seed, first, blocks, words);
  if (instruction_set() == InstructionSet::avx2) return avx2::philox_words(seed, first, blocks, words);
#endif
  for (int64_t block = 0; block < blocks; ++block)
    std::ranges::copy(philox_block(seed, first + static_cast<uint64_t>(block)), words + 4 * block);
}

}  // namespace xent::cpu
