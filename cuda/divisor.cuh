// Divisor: division of int64 by a number that is the same for a whole launch, as one multiplication. A GPU has no
// instruction for it, and its subroutine costs registers.
//
//   const Divisor inner(shape.product(axis + 1, rank));   // on the host
//   const auto [outer, i] = inner.of(row);                // in a kernel: row / inner and row % inner
#pragma once

#include <cstdint>

#include <xent/cuda/device.cuh>

namespace xent::cuda {

struct Divisor {
  int64_t by = 1;
  double inverse = 1;

  Divisor() = default;
  explicit Divisor(int64_t positive) : by(positive), inverse(1 / static_cast<double>(positive)) {}

  struct Result {
    int64_t quotient, remainder;
  };
  // Of 0 <= n < 2^52, beyond which there is no memory: the product is off by less than 1.
  __device__ Result of(int64_t n) const {
    Result result;
    result.quotient = static_cast<int64_t>(static_cast<double>(n) * inverse);
    result.remainder = n - result.quotient * by;
    if (result.remainder < 0) --result.quotient, result.remainder += by;
    if (result.remainder >= by) ++result.quotient, result.remainder -= by;
    return result;
  }
};

}  // namespace xent::cuda
