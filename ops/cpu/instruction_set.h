// Which vector instructions kernels may use: found when the program runs, so that one binary serves every machine.
//
// Files compiled for a wider set include nothing that the linker could share with the others, neither Eigen nor
// templates of the standard library: a shared copy with wide instructions would be illegal on an older machine.
#pragma once

namespace xent::cpu {

enum class InstructionSet { baseline, avx2, avx512 };

// The widest set of this machine that was compiled in, or a narrower one that XENT_CPU=baseline|avx2|avx512 asks for.
// Throws ArgumentError for another value, and for a set that is not there.
InstructionSet instruction_set();

}  // namespace xent::cpu
