// philox_words for AVX2. Empty on other architectures.
#if defined(__AVX2__)

#include <immintrin.h>

#include <xent/ops/cpu/philox_kernel.h>

namespace xent::cpu::avx2 {

void philox_words(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words) {
  using Vector = PhiloxLanes<32>::Vector;
  philox_lanes<32>(seed, first, blocks, words, [](Vector a, Vector b) {
    return (Vector)_mm256_mul_epu32((__m256i)a, (__m256i)b);  // casts between vector types keep the bits
  });
}

}  // namespace xent::cpu::avx2

#endif
