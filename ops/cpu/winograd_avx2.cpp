// Winograd's transforms for AVX2 with FMA. Empty on other architectures.
#if defined(__AVX2__) && defined(__FMA__)

#include <xent/ops/cpu/winograd_transforms.h>

namespace xent::cpu::avx2 {

constinit const WinogradKernel winograd = WinogradTransforms<8>::kernel;

}  // namespace xent::cpu::avx2

#endif
