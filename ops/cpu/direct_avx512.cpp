// The direct convolution's kernels for AVX-512: 32 registers of 64 bytes. Empty on other architectures.
#if defined(__AVX512F__)

#include <xent/ops/cpu/direct_tiles.h>

namespace xent::cpu::avx512 {

constinit const DirectKernel<float> direct_f32 = DirectTiles<float, 16, 13>::kernel;
constinit const DirectKernel<double> direct_f64 = DirectTiles<double, 8, 13>::kernel;

}  // namespace xent::cpu::avx512

#endif
