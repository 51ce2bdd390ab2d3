// gemm's kernel for AVX-512: 32 registers of 64 bytes. Empty on other architectures.
#if defined(__AVX512F__)

#include <xent/ops/cpu/gemm_kernel.h>

namespace xent::cpu::avx512 {

constinit const GemmKernel<float> gemm_f32 = gemm_kernel<float, 64, 14>;
constinit const GemmKernel<double> gemm_f64 = gemm_kernel<double, 64, 14>;

}  // namespace xent::cpu::avx512

#endif
