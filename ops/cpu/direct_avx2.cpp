// The direct convolution's kernels for AVX2 with FMA: 16 registers of 32 bytes. Empty on other architectures.
#if defined(__AVX2__) && defined(__FMA__)

#include <xent/ops/cpu/direct_tiles.h>

namespace xent::cpu::avx2 {

constinit const DirectKernel<float> direct_f32 = DirectTiles<float, 8, 6>::kernel;
constinit const DirectKernel<double> direct_f64 = DirectTiles<double, 4, 6>::kernel;

}  // namespace xent::cpu::avx2

#endif
