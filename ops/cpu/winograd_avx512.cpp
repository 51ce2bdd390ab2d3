// Winograd's transforms for AVX-512. Empty on other architectures.
#if defined(__AVX512F__)

#include <xent/ops/cpu/winograd_transforms.h>

namespace xent::cpu::avx512 {

constinit const WinogradKernel winograd = WinogradTransforms<16>::kernel;

}  // namespace xent::cpu::avx512

#endif
