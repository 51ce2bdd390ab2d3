// What the files of kernels share: the loop over a grid, in 64 bits, how many blocks it gets, and the check of
// statuses.
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/call.cuh>
#include <xent/cuda/divisor.cuh>
#include <xent/cuda/emulator/schedule.h>

#include "emulator_array.h"

using namespace xent;

namespace {

// The last thread of the grid writes down its place, and the stride.
__global__ void place(int64_t* out) {
  if (blockIdx.x < gridDim.x - 1 || threadIdx.x < blockDim.x - 1) return;
  out[0] = cuda::first_index();
  out[1] = cuda::grid_stride();
}

}  // namespace

TEST_CASE("a grid of more than 2^32 threads has indices to match") {
  const emulator::ScheduleScope scope({emulator::Order::last_block, 0});
  const unsigned blocks = (1u << 24) + 3;
  const DeviceArray<int64_t> out(2);
  check(cuda::launch({"place", blocks, 256}, place, out.data()));
  const int64_t threads = int64_t{blocks} * 256;
  CHECK(out.values() == std::vector<int64_t>{threads - 1, threads});
}

TEST_CASE("a loop gets the blocks that it needs, up to a number that fills any GPU") {
  CHECK(cuda::blocks_for(0) == 0);
  CHECK(cuda::blocks_for(1) == 1);
  CHECK(cuda::blocks_for(256) == 1);
  CHECK(cuda::blocks_for(257) == 2);
  CHECK(cuda::blocks_for(65, 64) == 2);
  CHECK(cuda::blocks_for(int64_t{4096} * 256) == 4096);
  CHECK(cuda::blocks_for(INT64_MAX) == 4096);
}

TEST_CASE("a Divisor divides every number below 2^62 by every number") {
  std::vector<int64_t> divisors = {1, 2, 3, 5, 6, 7, 10, 28, 100, 257, 1000003};
  for (int bits = 8; bits < 63; ++bits)
    for (const int64_t near : {-1, 0, 1}) divisors.push_back((int64_t{1} << bits) + near);
  constexpr int64_t last = (int64_t{1} << 62) - 1;
  for (const int64_t by : divisors) {
    const cuda::Divisor divisor(by);
    const int64_t most = last / by;  // the largest quotient
    for (const int64_t quotient : {int64_t{0}, int64_t{1}, int64_t{2}, most / 3, most - 1, most})
      for (const int64_t remainder : {int64_t{0}, int64_t{1}, by / 2, by - 1}) {
        if (quotient < 0 || quotient > most || remainder >= by || remainder > last - quotient * by) continue;
        const auto result = divisor.of(quotient * by + remainder);
        CAPTURE(by);
        CAPTURE(quotient);
        CHECK(result.quotient == quotient);
        CHECK(result.remainder == remainder);
      }
  }
  CHECK(cuda::Divisor(0).by == 1);  // of what there is nothing of
}

TEST_CASE("a status that is no success is a DeviceError, which says what to do where that is known") {
  cuda::check(cudaSuccess, "relu");
  CHECK_THROWS_WITH_AS(cuda::check(cudaErrorInvalidValue, "relu"), doctest::Contains("relu: cudaErrorInvalidValue"),
                       DeviceError);
  CHECK_THROWS_WITH_AS(cuda::check(cudaErrorNoKernelImageForDevice, "relu"),
                       doctest::Contains("compile it for this GPU: CMAKE_CUDA_ARCHITECTURES"), DeviceError);
}
