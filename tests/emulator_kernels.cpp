// Kernels on the emulator: right results, with the same bits in whatever order blocks and threads run.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/emulator/schedule.h>

#include "emulator_array.h"
#include "emulator_kernels.cuh"

using namespace xent;
using emulator::Order;

namespace {

// Calls compute(), which returns values, in many orders, and gives back what it returned in all of them.
template <class F>
auto in_all_orders(F&& compute) {
  const emulator::ScheduleScope forward({Order::forward, 0});
  const auto expected = compute();
  std::vector<emulator::Schedule> others = {{Order::backward, 0}};
  for (uint64_t seed = 1; seed < 6; ++seed) others.push_back({Order::shuffled, seed});
  for (const emulator::Schedule& other : others) {
    CAPTURE(other.seed);
    const emulator::ScheduleScope scope(other);
    const auto values = compute();
    REQUIRE(values.size() == expected.size());
    CHECK(std::memcmp(values.data(), expected.data(), values.size() * sizeof(values[0])) == 0);
  }
  return expected;
}

// Numbers whose sums are not exact, and so depend on the order of the addition.
std::vector<float> numbers(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = std::sin(static_cast<float>(i)) * 3;
  return values;
}

}  // namespace

TEST_CASE("a loop over the grid covers every element once, whatever the number of threads") {
  for (const unsigned blocks : {1u, 3u})
    for (const size_t count : {size_t{1}, size_t{63}, size_t{64}, size_t{200}, size_t{1000}}) {
      CAPTURE(count);
      const std::vector<float> x = numbers(count);
      const std::vector<float> y = in_all_orders([&] {
        const DeviceArray<float> in(x), out(std::vector<float>(count, 1.0f));
        check(cuda::launch({"scale_and_add", blocks, 64}, kernels::scale_and_add, 2, in.data(), out.data(), count));
        return out.values();
      });
      for (size_t i = 0; i < count; ++i) CHECK(y[i] == 2 * x[i] + 1);
    }
}

TEST_CASE("shuffles, shared memory and the last block's turn give one sum") {
  for (const size_t count : {size_t{1}, size_t{255}, size_t{4097}}) {
    CAPTURE(count);
    const std::vector<float> x = numbers(count);
    const std::vector<float> sums = in_all_orders([&] {
      const DeviceArray<float> in(x), partial(5), result(1);
      const DeviceArray<unsigned> ticket(std::vector<unsigned>{0});
      std::vector<float> values;
      for (int launch = 0; launch < 2; ++launch) {  // the ticket is ready for the second
        check(cuda::launch({"sum", 5, 64, 0, nullptr, 64}, kernels::sum<64>, in.data(), count, partial.data(),
                           ticket.data(), result.data()));
        values.push_back(result.values()[0]);
      }
      return values;
    });
    const double expected = std::accumulate(x.begin(), x.end(), 0.0);
    CHECK(sums[0] == doctest::Approx(expected).epsilon(1e-5));
    CHECK(sums[1] == sums[0]);
  }
}

TEST_CASE("beyond 2^31 elements, in the last block of a grid: offsets are 64 bits wide") {
  const emulator::ScheduleScope scope({Order::last_block, 0});
  SUBCASE("a loop over the grid") {
    const size_t count = (size_t{1} << 31) + 2 * 4096 * 256;  // 8 GiB each, of which one block touches 8 MiB
    const DeviceArray<float> x(count), y(count);
    x.set(count - 1, 3);
    check(cuda::launch({"scale_and_add", 4096, 256}, kernels::scale_and_add, 2, x.data(), y.data(), count));
    CHECK(y.value(count - 1) == 6);
  }
  SUBCASE("a loop over a grid of more than 2^32 threads") {
    const unsigned blocks = (1u << 22) + 1;
    const size_t stride = size_t{blocks} * 1024, count = 2 * stride;
    const DeviceArray<float> x(count), y(count);
    for (const size_t i : {stride - 1, count - 1}) x.set(i, 3);
    check(cuda::launch({"scale_and_add", blocks, 1024}, kernels::scale_and_add, 2, x.data(), y.data(), count));
    CHECK(y.value(stride - 1) == 6);
    CHECK(y.value(count - 1) == 6);
  }
  SUBCASE("a sum of more than 2^32 threads") {
    const unsigned blocks = (1u << 26) + 1;
    const size_t stride = size_t{blocks} * 64, count = 2 * stride;
    const DeviceArray<float> x(count), partial(size_t{1} << 28), result(1);
    const DeviceArray<unsigned> ticket(std::vector<unsigned>{0});
    x.set(stride - 1, 3);
    x.set(count - 1, 4);
    check(cuda::launch({"sum", blocks, 64, 0, nullptr, 64}, kernels::sum<64>, x.data(), count, partial.data(),
                       ticket.data(), result.data()));
    CHECK(partial.value(blocks - 1) == 7);
  }
  SUBCASE("a sum") {
    const size_t count = (size_t{1} << 31) + 4096 * 64;
    const DeviceArray<float> x(count), partial(std::vector<float>(4096)), result(1);
    const DeviceArray<unsigned> ticket(std::vector<unsigned>{4095});  // as if all other blocks had been here
    x.set(count - 1, 3);
    check(cuda::launch({"sum", 4096, 64, 0, nullptr, 64}, kernels::sum<64>, x.data(), count, partial.data(),
                       ticket.data(), result.data()));
    CHECK(result.values()[0] == 3);
  }
  SUBCASE("a block per row") {
    const unsigned classes = 1000, rows = (1u << 31) / classes + 5;
    const size_t shared_bytes = (classes + 2) * sizeof(float), count = size_t{rows} * classes;
    const DeviceArray<float> x(count), p(count);
    check(cuda::launch({"softmax", rows, 64, shared_bytes}, kernels::softmax<float>, x.data(), p.data(), 1000));
    CHECK(p.value(count - 1) == 0.001f);
  }
  SUBCASE("tiles") {
    const int rows = 70000, columns = 40000;
    const size_t count = size_t{rows} * columns;
    const DeviceArray<float> x(count), y(count);
    x.set(count - 1, 3);
    const dim3 grid((columns + 31) / 32, (rows + 31) / 32);
    check(cuda::launch({"transpose", grid, dim3(32, 8)}, kernels::transpose, x.data(), y.data(), rows, columns));
    CHECK(y.value(count - 1) == 3);
  }
}

TEST_CASE("a tile in shared memory transposes matrices of any extents") {
  for (const int rows : {1, 32, 45})
    for (const int columns : {1, 33}) {
      const std::vector<float> x = numbers(static_cast<size_t>(rows * columns));
      const std::vector<float> y = in_all_orders([&] {
        const DeviceArray<float> in(x), out(x.size());
        const dim3 grid(static_cast<unsigned>(columns + 31) / 32, static_cast<unsigned>(rows + 31) / 32);
        check(cuda::launch({"transpose", grid, dim3(32, 8)}, kernels::transpose, in.data(), out.data(), rows, columns));
        return out.values();
      });
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c)
          CHECK(y[static_cast<size_t>(c * rows + r)] == x[static_cast<size_t>(r * columns + c)]);
    }
}

TEST_CASE("groups of lanes meet at a __syncwarp of their own, as often as they like") {
  std::vector<int> x(64);
  std::iota(x.begin(), x.end(), 100);
  const std::vector<int> y = in_all_orders([&] {
    const DeviceArray<int> in(x), out(64);
    check(cuda::launch({"reverse_in_groups", 1, 64}, kernels::reverse_in_groups, in.data(), out.data()));
    return out.values();
  });
  for (size_t i = 0; i < 64; ++i) CHECK(y[i] == x[i / 8 % 4 % 2 == 1 ? i ^ 7 : i]);
}

TEST_CASE("rows in dynamic shared memory, in f32 and in 16 bits") {
  for (const int classes : {1, 10, 70}) {
    CAPTURE(classes);
    const unsigned rows = 3;
    const std::vector<float> x = numbers(rows * static_cast<size_t>(classes));
    const size_t shared_bytes = (static_cast<size_t>(classes) + 2) * sizeof(float);
    const std::vector<float> p = in_all_orders([&] {
      const DeviceArray<float> in(x), out(x.size());
      check(cuda::launch({"softmax", rows, 64, shared_bytes}, kernels::softmax<float>, in.data(), out.data(), classes));
      return out.values();
    });
    const std::vector<__nv_bfloat16> in_16_bits(x.begin(), x.end());
    const std::vector<__nv_bfloat16> p_in_16_bits = in_all_orders([&] {
      const DeviceArray<__nv_bfloat16> in(in_16_bits), out(x.size());
      check(cuda::launch({"softmax", rows, 64, shared_bytes}, kernels::softmax<__nv_bfloat16>, in.data(), out.data(),
                         classes));
      return out.values();
    });
    for (size_t row = 0; row < rows; ++row) {
      double sum = 0;
      const size_t first = row * static_cast<size_t>(classes), end = first + static_cast<size_t>(classes);
      for (size_t i = first; i < end; ++i) sum += std::exp(static_cast<double>(x[i]));
      for (size_t i = first; i < end; ++i) {
        CHECK(p[i] == doctest::Approx(std::exp(static_cast<double>(x[i])) / sum).epsilon(1e-5));
        CHECK(std::abs(static_cast<float>(p_in_16_bits[i]) - p[i]) < 0.02 * static_cast<double>(p[i]) + 1e-6);
      }
    }
  }
}

TEST_CASE("a vote and an atomic counter keep what they should, each once") {
  std::vector<int> x(300);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int>(i % 7) * (i % 3 == 0 ? -1 : 1);
  const std::vector<int> kept = in_all_orders([&] {
    const DeviceArray<int> in(x), out(x.size()), count(std::vector<int>{0});
    check(cuda::launch({"keep_positive", 3, 128}, kernels::keep_positive, in.data(), 300, out.data(), count.data()));
    std::vector<int> values = out.values();
    values.resize(static_cast<size_t>(count.values()[0]));
    std::sort(values.begin(), values.end());  // warps take their room in any order
    return values;
  });
  std::vector<int> expected;
  std::copy_if(x.begin(), x.end(), std::back_inserter(expected), [](int value) { return value > 0; });
  std::sort(expected.begin(), expected.end());
  CHECK(kept == expected);
}

TEST_CASE("a warp may be shorter than its mask says") {
  for (const unsigned threads : {1u, 20u, 32u, 50u}) {
    CAPTURE(threads);
    const std::vector<int> x(threads, 1);
    const std::vector<int> sums = in_all_orders([&] {
      const DeviceArray<int> in(x), out(threads);
      check(cuda::launch({"running_sums", 1, threads}, kernels::running_sums, in.data(), out.data()));
      return out.values();
    });
    for (unsigned i = 0; i < threads; ++i) CHECK(sums[i] == static_cast<int>(i % 32) + 1);
  }
}
