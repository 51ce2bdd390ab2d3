// Divisor: division of int64 by a number that is the same for a whole launch, as a multiplication and a shift. A GPU
// has no instruction for it, and its subroutine takes a hundred others and registers besides.
//
//   const Divisor inner(shape.product(axis + 1, rank));   // on the host
//   const auto [outer, i] = inner.of(row);                // in a kernel: row / inner and row % inner
#pragma once

#include <cstdint>

#include <xent/cuda/device.cuh>

namespace xent::cuda {

// The upper 64 bits of a product.
__host__ __device__ inline uint64_t upper_product(uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(static_cast<Wide>(a) * b >> 64);
#endif
}

// With 2^shift <= by < 2^(shift + 1) and inverse = 2^(63 + shift) / by, too large by at most 1, n inverse is too large
// by at most n, which for n < 2^62 is less than 2^(63 + shift) / by: not enough to reach the next whole quotient.
struct Divisor {
  int64_t by;
  uint64_t inverse;
  int shift = 0;

  Divisor() : Divisor(1) {}
  explicit Divisor(int64_t divisor) : by(divisor > 0 ? divisor : 1) {  // by 0 where there is nothing to divide
    constexpr uint64_t power = uint64_t{1} << 63;
    const auto d = static_cast<uint64_t>(by);
    uint64_t rest = power % d;
    inverse = power / d;
    for (; d >> shift > 1; ++shift) {  // digit by digit
      inverse = 2 * inverse + (2 * rest >= d);
      rest = 2 * rest - (2 * rest >= d ? d : 0);
    }
    ++inverse;
  }

  struct Result {
    int64_t quotient, remainder;
  };
  // Of 0 <= n < 2^62.
  __host__ __device__ Result of(int64_t n) const {
    const auto quotient = static_cast<int64_t>(upper_product(2 * static_cast<uint64_t>(n), inverse) >> shift);
    return {quotient, n - quotient * by};
  }
};

}  // namespace xent::cuda
