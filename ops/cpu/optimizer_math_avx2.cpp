// optimizer_math for AVX2 with FMA. Empty on other architectures.
#if defined(__AVX2__) && defined(__FMA__)

#include <xent/ops/cpu/optimizer_kernel.h>

namespace xent::cpu::avx2 {

constinit const OptimizerMath<float> optimizer_f32 = optimizer_math_of<float>;
constinit const OptimizerMath<double> optimizer_f64 = optimizer_math_of<double>;

}  // namespace xent::cpu::avx2

#endif
