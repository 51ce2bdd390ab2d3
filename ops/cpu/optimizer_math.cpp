#include <xent/ops/cpu/optimizer_math.h>

#include <type_traits>

#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/optimizer_kernel.h>

namespace xent::cpu {

namespace {

template <class T>
constinit const OptimizerMath<T> baseline = optimizer_math_of<T>;

}  // namespace

template <class T>
const OptimizerMath<T>& optimizer_math() {
#if defined(XENT_WIDE_KERNELS)
  if (instruction_set() >= InstructionSet::avx2) {
    if constexpr (std::is_same_v<T, float>) return avx2::optimizer_f32;
    else return avx2::optimizer_f64;
  }
#endif
  return baseline<T>;
}

template const OptimizerMath<float>& optimizer_math<float>();
template const OptimizerMath<double>& optimizer_math<double>();

}  // namespace xent::cpu
