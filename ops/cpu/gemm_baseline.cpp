// gemm's kernel for any machine of this architecture.
#include <xent/ops/cpu/gemm_kernel.h>

namespace xent::cpu::baseline {

constinit const GemmKernel<float> gemm_f32 = gemm_kernel<float, 16, 4>;
constinit const GemmKernel<double> gemm_f64 = gemm_kernel<double, 16, 4>;

}  // namespace xent::cpu::baseline
