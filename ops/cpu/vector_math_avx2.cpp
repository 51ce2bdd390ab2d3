// vector_math for AVX2 with FMA. Empty on other architectures.
#if defined(__AVX2__) && defined(__FMA__)

#include <xent/ops/cpu/vector_map.h>

namespace xent::cpu::avx2 {

constinit const VectorMath vector_math = vector_math_of<32>;

}  // namespace xent::cpu::avx2

#endif
