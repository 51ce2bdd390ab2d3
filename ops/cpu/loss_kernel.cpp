#include <xent/ops/cpu/loss_kernel.h>

#include <xent/ops/cpu/instruction_set.h>

namespace xent::cpu {

const LossKernel* loss_kernel([[maybe_unused]] DType dtype) {
#if defined(XENT_WIDE_KERNELS)
  const bool widest = instruction_set() == InstructionSet::avx512;
  if (!widest && instruction_set() != InstructionSet::avx2) return nullptr;
  switch (dtype) {
    case DType::f32: return widest ? &avx512::loss_f32 : &avx2::loss_f32;
    case DType::f16: return widest ? &avx512::loss_f16 : &avx2::loss_f16;
    case DType::bf16: return widest ? &avx512::loss_bf16 : &avx2::loss_bf16;
    default: break;
  }
#endif
  return nullptr;
}

}  // namespace xent::cpu
