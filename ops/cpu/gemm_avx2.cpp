// gemm's kernel for AVX2 with FMA: 16 registers of 32 bytes. Empty on other architectures.
#if defined(__AVX2__) && defined(__FMA__)

#include <xent/ops/cpu/gemm_kernel.h>

namespace xent::cpu::avx2 {

constinit const GemmKernel<float> gemm_f32 = gemm_kernel<float, 32, 6>;
constinit const GemmKernel<double> gemm_f64 = gemm_kernel<double, 32, 6>;

}  // namespace xent::cpu::avx2

#endif
