// The loops over a row of logits for AVX-512. Empty on other architectures.
#if defined(__AVX512F__)

#include <immintrin.h>

#include <xent/ops/cpu/loss_loops.h>
#include <xent/ops/cpu/loss_runs.h>

namespace xent::cpu::avx512 {

namespace {

struct Vectors : LossVectors<64> {
  static Floats larger(Floats a, Floats b) { return (Floats)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)b); }
  static Words pick(Words table, Words at) {
    return (Words)_mm512_maskz_permutexvar_epi32(0xFFFF, (__m512i)at, (__m512i)table);
  }
  static void stream(void* to, Words words) { _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)words); }
  static Floats widened(const uint16_t* x) {  // with all lanes in the mask: GCC warns of its own _mm512_cvtph_ps
    return (Floats)_mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  }
  static void narrow(uint16_t* y, Floats value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                        _mm512_maskz_cvtps_ph(0xFFFF, (__m512)value, _MM_FROUND_TO_NEAREST_INT));
  }
  static void finish_stream() { _mm_sfence(); }
};

template <class Pairs>
constexpr LossKernel kernel = {row_sum<Pairs>, row_grad<Pairs>, loss_group<Pairs>,
                               Pairs::lanes,   loss_run<Pairs>, count_labels};

}  // namespace

constinit const LossKernel loss_f32 = kernel<PairsOfF32<Vectors>>;
constinit const LossKernel loss_f16 = kernel<PairsOfF16<Vectors>>;
constinit const LossKernel loss_bf16 = kernel<PairsOfBF16<Vectors>>;

}  // namespace xent::cpu::avx512

#endif
