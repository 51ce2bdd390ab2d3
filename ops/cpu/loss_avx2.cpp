// The loops over a row of logits for AVX2 with FMA and F16C. Empty on other architectures.
#if defined(__AVX2__)

#include <immintrin.h>

#include <xent/ops/cpu/loss_loops.h>
#include <xent/ops/cpu/loss_runs.h>

namespace xent::cpu::avx2 {

namespace {

struct Vectors : LossVectors<32> {
  static Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
  static Words pick(Words table, Words at) { return (Words)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)at); }
  static void stream(void* to, Words words) { _mm256_stream_si256(static_cast<__m256i*>(to), (__m256i)words); }
  static Floats widened(const uint16_t* x) {
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  }
  static void narrow(uint16_t* y, Floats value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
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

}  // namespace xent::cpu::avx2

#endif
