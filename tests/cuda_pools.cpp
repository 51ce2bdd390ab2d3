// max_pool2d, avg_pool2d and global_avg_pool2d on CUDA against the CPU, in every order.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

constexpr DType dtypes[] = {DType::f32, DType::f64};

struct Problem {
  Shape x;
  Pool2dOptions options = {};
};

// Windows that tile, overlap, leave gaps, reach out of the image on both sides, and are larger than it.
const std::vector<Problem> problems = {
    {{1, 1, 1, 1}, {.window = 1}},
    {{2, 6, 4, 3}},
    {{3, 7, 5, 2}, {.window = 3, .stride = 2, .padding = 1}},
    {{2, 5, 8, 1}, {.window = {2, 3}, .stride = {1, 2}, .padding = {0, 1}}},
    {{1, 4, 4, 70}, {.window = 4}},
    {{3, 9, 7, 2}, {.window = 2, .stride = 3}},
    {{2, 6, 5, 33}, {.window = {4, 5}, .stride = 1, .padding = {2, 2}}},
    {{1, 3, 2, 5}, {.window = {6, 4}, .stride = {2, 1}, .padding = {3, 2}}},
    {{2, 3, 4, 2}, {.window = int64_t{1} << 30, .stride = 2, .padding = int64_t{1} << 29}},
    {{0, 4, 4, 3}},
    {{2, 4, 4, 0}},
};

std::string name_of(const Problem& p) {
  return p.x.str() + " by " + std::to_string(p.options.window.height) + " x " + std::to_string(p.options.window.width);
}

const Shape more_than_a_grid = {1, 1030, 1030, 1};  // 4096 blocks of 256 threads are the most that are started

// Result and gradient of x, the same in every order, against those on the CPU; the latter relative to so much.
void check_on_cuda(const Function& pool, const Tensor& x, double tolerance) {
  const Tensor upstream = normal_sample(pool({x}).shape(), x.dtype(), 5);
  const TensorList expected = run(pool, {x}, upstream);
  for (const bool aligned : {true, false}) {
    if (!aligned && x.shape() == more_than_a_grid) continue;
    const TensorList leaves = {there(x, aligned)};
    const Tensor dy = there(upstream, aligned);
    const TensorList got = in_every_order([&] { return run(pool, leaves, dy); });
    CHECK(same_bits(got[0], expected[0]));
    const std::vector<double> dx = doubles(got[1]), want = doubles(expected[1]);
    REQUIRE(dx.size() == want.size());
    double worst = 0;
    for (size_t i = 0; i < dx.size(); ++i) worst = std::max(worst, std::abs(dx[i] - want[i]));
    CHECK(worst <= tolerance);
  }
}

}  // namespace

TEST_CASE("max_pool2d and its gradient have the bits of the CPU's") {
  for (const Problem& p : problems)
    for (const DType dtype : dtypes) {
      const std::string problem = name_of(p);
      CAPTURE(problem);
      const auto pool = [&](const TensorList& l) { return max_pool2d(l[0], p.options); };
      check_on_cuda(pool, normal_sample(p.x, dtype, 1), 0);
      check_on_cuda(pool, integers(p.x, dtype, 2), 0);  // with many that are equal
    }
}

// A share of dy is rounded, and again in each sum, which a GPU may do in one step.
TEST_CASE("avg_pool2d has the bits of the CPU's, and its gradient differs by rounding at most") {
  for (const Problem& p : problems)
    for (const DType dtype : dtypes) {
      const std::string problem = name_of(p);
      CAPTURE(problem);
      check_on_cuda([&](const TensorList& l) { return avg_pool2d(l[0], p.options); }, normal_sample(p.x, dtype, 1),
                    dtype == DType::f32 ? 0x1p-20 : 0x1p-49);
    }
}

TEST_CASE("pools of more elements than there are threads are as those of few") {
  if (looks_for_races) return;
  const Tensor x = integers(more_than_a_grid, DType::f32, 1);
  const Pool2dOptions options = {.window = {1, 2}, .stride = 1};
  check_on_cuda([&](const TensorList& l) { return max_pool2d(l[0], options); }, x, 0);
  check_on_cuda([&](const TensorList& l) { return avg_pool2d(l[0], options); }, x, 0x1p-20);
}

TEST_CASE("in max_pool2d a NaN is larger than all, the first of two is taken, and infinities are numbers") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : dtypes)
    for (int first = 0; first < 4; ++first)
      for (int second = first; second < 4; ++second) {
        std::vector<double> images = {-infinity, -infinity, -infinity, -infinity};
        const auto pool = [](const TensorList& l) { return max_pool2d(l[0]); };
        check_on_cuda(pool, cast(Tensor::from(images, {1, 2, 2, 1}), dtype), 0);
        images[static_cast<size_t>(first)] = images[static_cast<size_t>(second)] = std::nan("");
        const TensorList leaves = {there(cast(Tensor::from(images, {1, 2, 2, 1}), dtype))};
        const TensorList got = run(pool, leaves, there(Tensor::ones({1, 1, 1, 1}, dtype)));
        CHECK(std::isnan(doubles(got[0])[0]));
        for (size_t i = 0; i < 4; ++i) CHECK(doubles(got[1])[i] == (static_cast<int>(i) == first ? 1 : 0));
      }
}

TEST_CASE("global_avg_pool2d and its gradient have the bits of the CPU's") {
  std::vector<Shape> shapes = {{1, 1, 1, 1},   {2, 1, 1, 3},   {3, 5, 7, 2}, {2, 7, 7, 33}, {1, 16, 16, 1},
                               {2, 15, 17, 5}, {1, 33, 31, 2}, {0, 3, 3, 2}, {3, 2, 2, 0},  {4, 3, 11, 65}};
  if (!looks_for_races)
    shapes.insert(shapes.end(), {{2, 130, 140, 3}, more_than_a_grid, {32770, 1, 3, 1}});  // more images than blocks
  for (const Shape& shape : shapes)
    for (const DType dtype : dtypes) {
      const std::string problem = shape.str();
      CAPTURE(problem);
      check_on_cuda([](const TensorList& l) { return global_avg_pool2d(l[0]); }, integers(shape, dtype, 1), 0);
    }
}
