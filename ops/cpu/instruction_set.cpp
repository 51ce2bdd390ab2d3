#include <xent/ops/cpu/instruction_set.h>

#include <cstdlib>
#include <string_view>

#include <xent/core/require.h>

namespace xent::cpu {

namespace {

InstructionSet widest() {
#if defined(XENT_WIDE_KERNELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return InstructionSet::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

InstructionSet chosen() {
  const char* text = std::getenv("XENT_CPU");
  if (!text) return widest();
  const std::string_view name = text;
  const InstructionSet asked = name == "baseline" ? InstructionSet::baseline
                               : name == "avx2"   ? InstructionSet::avx2
                                                  : InstructionSet::avx512;
  require<ArgumentError>(asked != InstructionSet::avx512 || name == "avx512",
                         "XENT_CPU={}: use baseline, avx2 or avx512", name);
  require<ArgumentError>(asked <= widest(), "XENT_CPU={}: this machine or build does not have it", name);
  return asked;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet set = chosen();
  return set;
}

}  // namespace xent::cpu
