// philox_words for AVX-512. Empty on other architectures.
#if defined(__AVX512F__)

#include <immintrin.h>

#include <xent/ops/cpu/philox_kernel.h>

namespace xent::cpu::avx512 {

void philox_words(uint64_t seed, uint64_t first, int64_t blocks, uint32_t* words) {
  using Vector = PhiloxLanes<64>::Vector;
  philox_lanes<64>(seed, first, blocks, words, [](Vector a, Vector b) {
    // Casts between vector types keep the bits. With all lanes in the mask: GCC warns of its own _mm512_mul_epu32.
    return (Vector)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
  });
}

}  // namespace xent::cpu::avx512

#endif
