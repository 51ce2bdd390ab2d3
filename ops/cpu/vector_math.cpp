#include <xent/ops/cpu/vector_math.h>

#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/vector_map.h>

namespace xent::cpu {

namespace {

constinit const VectorMath baseline = vector_math_of<16>;

}  // namespace

const VectorMath& vector_math() {
#if defined(XENT_WIDE_KERNELS)
  if (instruction_set() == InstructionSet::avx512) return avx512::vector_math;
  if (instruction_set() == InstructionSet::avx2) return avx2::vector_math;
#endif
  return baseline;
}

}  // namespace xent::cpu
