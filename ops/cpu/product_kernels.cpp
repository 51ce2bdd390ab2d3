#include <xent/ops/cpu/product_kernels.h>

#include <xent/ops/cpu/instruction_set.h>

namespace xent::cpu {

template <>
ProductKernels<float> product_kernels() {
#if defined(XENT_WIDE_KERNELS)
  if (instruction_set() == InstructionSet::avx512) return {&avx512::gemm_f32, &avx512::direct_f32, &avx512::winograd};
  if (instruction_set() == InstructionSet::avx2) return {&avx2::gemm_f32, &avx2::direct_f32, &avx2::winograd};
#endif
  return {};
}

template <>
ProductKernels<double> product_kernels() {
#if defined(XENT_WIDE_KERNELS)
  if (instruction_set() == InstructionSet::avx512) return {&avx512::gemm_f64, &avx512::direct_f64};
  if (instruction_set() == InstructionSet::avx2) return {&avx2::gemm_f64, &avx2::direct_f64};
#endif
  return {};
}

}  // namespace xent::cpu
