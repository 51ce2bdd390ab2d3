// The shape of a product of two matrices, for the kernels of every device. Private.
#pragma once

#include <cstdint>

namespace xent {

struct GemmShape {
  int64_t m, n, k;  // C is [m, n], op(A) is [m, k], op(B) is [k, n]
  bool transpose_a = false;
  bool transpose_b = false;
};

}  // namespace xent
