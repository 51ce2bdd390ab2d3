// multiply_add: a b + c, rounded twice. nvcc makes one fused operation of the expression, which rounds once; where the
// bits have to be those of the CPU, a kernel writes this.
#pragma once

#include <xent/cuda/device.cuh>

namespace xent::cuda {

__device__ inline float multiply_add(float a, float b, float c) { return __fadd_rn(__fmul_rn(a, b), c); }
__device__ inline double multiply_add(double a, double b, double c) { return __dadd_rn(__dmul_rn(a, b), c); }

}  // namespace xent::cuda
