// CUDA's functions by their own names, against what the CUDA programming guide says of them: shuffles in segments,
// votes, reductions, barriers that count, atomics, and the arithmetic of bits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/device.cuh>
#include <xent/cuda/emulator/schedule.h>

#include "emulator_array.h"

using namespace xent;

namespace {

// Runs a kernel that writes `count` numbers, in three orders, and returns them where they are the same.
template <class T>
std::vector<T> in_orders(void (*kernel)(T*), size_t count, unsigned threads) {
  std::vector<T> expected;
  for (const auto order : {emulator::Order::forward, emulator::Order::backward, emulator::Order::shuffled}) {
    const emulator::ScheduleScope scope({order, 3});
    const DeviceArray<T> out(std::vector<T>(count, T(0)));
    check(cuda::launch({"kernel", 1, threads}, kernel, out.data()));
    if (order == emulator::Order::forward) expected = out.values();
    CHECK(out.values() == expected);
  }
  return expected;
}

constexpr unsigned all = 0xffffffffu;

__global__ void shuffles(int* out) {  // [32, 6]
  const int lane = static_cast<int>(threadIdx.x);
  out[lane * 6] = __shfl_sync(all, lane, 5);
  out[lane * 6 + 1] = __shfl_sync(all, lane, 5, 4);
  out[lane * 6 + 2] = __shfl_up_sync(all, lane, 3, 8);
  out[lane * 6 + 3] = __shfl_down_sync(all, lane, 3, 8);
  out[lane * 6 + 4] = __shfl_xor_sync(all, lane, 4, 8);
  out[lane * 6 + 5] = __shfl_xor_sync(all, lane, 4, 4);
}

__global__ void votes(unsigned* out) {  // [32, 7]
  const unsigned lane = threadIdx.x;
  out[lane * 7] = __ballot_sync(all, lane % 3 == 0);
  out[lane * 7 + 1] = static_cast<unsigned>(__any_sync(all, lane == 31));
  out[lane * 7 + 2] = static_cast<unsigned>(__any_sync(all, 0));
  out[lane * 7 + 3] = static_cast<unsigned>(__all_sync(all, 1));
  out[lane * 7 + 4] = static_cast<unsigned>(__all_sync(all, lane != 31));
  out[lane * 7 + 5] = __match_any_sync(all, lane % 4);
  out[lane * 7 + 6] = lane < 8 ? __ballot_sync(0xffu, lane != 2) : __ballot_sync(~0xffu, lane != 9);
}

__global__ void reductions(int* out) {  // [5]
  const int lane = static_cast<int>(threadIdx.x);
  const int sum = __reduce_add_sync(all, lane), least = __reduce_min_sync(all, 7 - lane),
            most = __reduce_max_sync(all, lane - 40);
  const unsigned both = __reduce_and_sync(all, threadIdx.x | 64u), any = __reduce_or_sync(all, threadIdx.x);
  if (lane == 9) {
    out[0] = sum;
    out[1] = least;
    out[2] = most;
    out[3] = static_cast<int>(both);
    out[4] = static_cast<int>(any);
  }
}

__global__ void counting_barriers(int* out) {  // [50, 4]
  const int thread = static_cast<int>(threadIdx.x);
  out[thread * 4] = __syncthreads_count(thread % 5 == 0);
  out[thread * 4 + 1] = __syncthreads_count(thread < 20);
  out[thread * 4 + 2] = __syncthreads_or(thread == 49) * 2 + __syncthreads_or(0);
  out[thread * 4 + 3] = __syncthreads_and(1) * 2 + __syncthreads_and(thread != 3);
}

__global__ void atomics(int* out) {  // [8]
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) out[1] = 1000, out[3] = -1;
  __syncthreads();
  atomicAdd(&out[0], thread);
  atomicMin(&out[1], 100 - thread);
  atomicMax(&out[2], thread);
  atomicAnd(&out[3], ~(1 << thread % 8));
  atomicOr(&out[4], 1 << thread % 8);
  for (int expected = 0, old; (old = atomicCAS(&out[5], expected, expected + 2)) != expected;) expected = old;
  atomicInc(reinterpret_cast<unsigned*>(&out[6]), 9);
  __syncthreads();
  if (thread == 0) out[7] = atomicExch(&out[0], -5);
}

__global__ void bits(unsigned* out) {  // [8]
  out[0] = static_cast<unsigned>(__popc(0xf0f1u));
  out[1] = static_cast<unsigned>(__clz(0x00ff));
  out[2] = static_cast<unsigned>(__clz(0));
  out[3] = static_cast<unsigned>(__ffs(0x50));
  out[4] = __brev(1u);
  out[5] = __umulhi(0xffffffffu, 0x10u);
  out[6] = __float_as_uint(1.0f);
  out[7] = static_cast<unsigned>(__umul64hi(1ull << 63, 6));
}

}  // namespace

TEST_CASE("shuffles read within segments, and their own value beyond an end") {
  const std::vector<int> out = in_orders(shuffles, 32 * 6, 32);
  for (int lane = 0; lane < 32; ++lane) {
    CAPTURE(lane);
    const int* const row = &out[static_cast<size_t>(lane) * 6];
    CHECK(row[0] == 5);
    CHECK(row[1] == lane / 4 * 4 + 1);
    CHECK(row[2] == (lane % 8 >= 3 ? lane - 3 : lane));
    CHECK(row[3] == (lane % 8 < 5 ? lane + 3 : lane));
    CHECK(row[4] == (lane ^ 4));
    CHECK(row[5] == (lane % 8 >= 4 ? lane - 4 : lane));  // a segment that came before may be read, one behind may not
  }
}

TEST_CASE("votes know who is for it, in masks that need not be full") {
  const std::vector<unsigned> out = in_orders(votes, 32 * 7, 32);
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned* const row = &out[lane * 7];
    CHECK(row[0] == 0x49249249u);
    CHECK(row[1] == 1);
    CHECK(row[2] == 0);
    CHECK(row[3] == 1);
    CHECK(row[4] == 0);
    CHECK(row[5] == 0x11111111u << lane % 4);
    CHECK(row[6] == (lane < 8 ? 0xfbu : 0xfffffd00u));
  }
}

TEST_CASE("reductions over a warp") { CHECK(in_orders(reductions, 5, 32) == std::vector<int>{496, -24, -9, 64, 31}); }

TEST_CASE("barriers that count, one after the other") {
  const std::vector<int> out = in_orders(counting_barriers, 50 * 4, 50);
  for (size_t thread = 0; thread < 50; ++thread) {
    CHECK(out[thread * 4] == 10);
    CHECK(out[thread * 4 + 1] == 20);
    CHECK(out[thread * 4 + 2] == 2);
    CHECK(out[thread * 4 + 3] == 2);
  }
}

TEST_CASE("atomics of 48 threads") {
  CHECK(in_orders(atomics, 8, 48) == std::vector<int>{-5, 53, 47, -256, 255, 96, 8, 1128});
}

TEST_CASE("the arithmetic of bits") {
  CHECK(in_orders(bits, 8, 1) == std::vector<unsigned>{9, 24, 32, 5, 0x80000000u, 15, 0x3f800000u, 3});
}
