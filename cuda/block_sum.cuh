// Sums over the threads of a warp or a block, in an order that the number of threads alone decides: the same bits in
// every run. A Value is a double, or a struct of doubles with a + that does not mind which side is which.
//
//   value = warp_sum(value);                   // of 32 lanes: every lane gets the sum
//   value = warp_sum(value, 8);                // of each 8 lanes that lie together
//   value = block_sum<256>(value);             // of the block: every thread gets the sum
#pragma once

#include <cstdint>

#include <xent/cuda/device.cuh>

namespace xent::cuda {

// Two or more sums side by side.
template <int n>
struct Sums {
  double of[n];

  __device__ friend Sums operator+(const Sums& x, const Sums& y) {
    Sums z;
    for (int k = 0; k < n; ++k) z.of[k] = x.of[k] + y.of[k];
    return z;
  }
};

// The value of the lane whose number differs in these bits.
template <class Value>
__device__ Value shuffled(const Value& value, int bits) {
  static_assert(sizeof(Value) % sizeof(double) == 0 && alignof(Value) == alignof(double));
  constexpr int count = sizeof(Value) / sizeof(double);
  Value other;
  const auto* from = reinterpret_cast<const double*>(&value);
  auto* to = reinterpret_cast<double*>(&other);
#pragma unroll
  for (int k = 0; k < count; ++k) to[k] = __shfl_xor_sync(0xffffffffu, from[k], bits);
  return other;
}

template <class Value>
__device__ Value warp_sum(Value value, int lanes = 32) {
  for (int bits = lanes / 2; bits > 0; bits /= 2) value = value + shuffled(value, bits);
  return value;
}

// threads: of the block at most; it may have fewer warps.
template <int threads, class Value>
__device__ Value block_sum(Value value, int warps = threads / 32) {
  XENT_SHARED(Value, of_warp, threads / 32);
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warp[0];
  for (int warp = 1; warp < warps; ++warp) value = value + of_warp[warp];
  __syncthreads();  // of_warp may be written again
  return value;
}

}  // namespace xent::cuda
