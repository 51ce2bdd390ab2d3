// vector_math for AVX-512. Empty on other architectures.
#if defined(__AVX512F__)

#include <xent/ops/cpu/vector_map.h>

namespace xent::cpu::avx512 {

constinit const VectorMath vector_math = vector_math_of<64>;

}  // namespace xent::cpu::avx512

#endif
