// Functions of many f32 elements at once, in the widest vector registers the machine has.
//
//   vector_math().tanh.f(x, y, count);             // y_i = tanh(x_i)
//   vector_math().tanh.df(y, dy, dx, count);       // dx_i = dy_i tanh'(x_i), told from y as scalar::Tanh tells it
//
// An element's bits do not depend on where it is in the run. vector_math_kernel.h has the errors.
#pragma once

#include <cstdint>

namespace xent::cpu {

struct VectorFunction {
  void (*f)(const float* x, float* y, int64_t count);
  void (*df)(const float* v, const float* dy, float* dx, int64_t count);  // v is x or y, as scalar::Reads says
};

// The result may be written over an input.
struct VectorMath {
  VectorFunction relu, tanh, sigmoid, gelu, exp, log;
};

const VectorMath& vector_math();

}  // namespace xent::cpu
