// conv2d against its definition: plain loops in f64 over every product there is. ctest runs it once per instruction
// set.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/cpu/convolution.h>
#include <xent/xent.h>

#include "chance.h"
#include "conv2d_trial.h"
#include "data_files.h"
#include "machine_has_it.h"

using namespace xent;
using namespace conv2d_trial;
using data_files::contains, data_files::error_of;

namespace {

// Several blocks of patches in each of several parts, with and without a gather, and one with a weight too large to be
// cut: its product is what runs in parallel.
const std::vector<Problem>& large_problems() {
  static const std::vector<Problem> problems = {
      {{5, 40, 41, 3}, {3, 2, 3, 5}, {.padding = {1, 2}, .activation = Activation::relu}},
      {{3, 70, 69, 17}, {1, 1, 17, 9}, {.activation = Activation::tanh}},
      {{2, 6, 6, 256}, {3, 3, 256, 512}, {.padding = 1}},
  };
  return problems;
}

}  // namespace

TEST_CASE("conv2d and its gradients, also added to others, are what the definition says") {
  if (!machine_has_it()) return;
  const bool poisoned = poison_fresh_memory(true);
  int pointwise = 0;
  for (uint64_t seed = 0; seed < 240; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    const auto pair = [&](int64_t low, int64_t high) { return Extent2d(c.from(low, high), c.from(low, high)); };
    Problem p;
    p.options = {pair(1, 3), pair(0, 4), pair(1, 3), static_cast<Activation>(c.below(4))};
    Extent2d kernel = pair(1, 4);
    if (c.one_in(5)) kernel = 1, p.options.stride = 1, p.options.padding = 0;
    const auto extent = [&](int64_t taps, int64_t padding, int64_t dilation) {  // at least what the kernel reaches over
      const int64_t least = dilation * (taps - 1) + 1 - 2 * padding;
      return std::max<int64_t>(least, c.one_in(12) && least <= 0 ? 0 : 1) + (c.one_in(8) ? 0 : c.from(0, 9));
    };
    const int64_t in = c.any<int64_t>({1, 2, 3, 4, 17, 33}), out = c.any<int64_t>({1, 2, 5, 8, 17, 33});
    p.x = {c.from(1, 4), extent(kernel.height, p.options.padding.height, p.options.dilation.height),
           extent(kernel.width, p.options.padding.width, p.options.dilation.width), in};
    p.weight = {kernel.height, kernel.width, in, out};
    p.bias = c.one_in(2);
    p.dtype = c.one_in(3) ? DType::f64 : DType::f32;
    pointwise += convolution(p).pointwise() ? 1 : 0;
    check(Trial(p, seed));
  }
  CHECK(pointwise > 20);
  poison_fresh_memory(poisoned);
}

TEST_CASE("conv2d of many pixels, or of a large weight, is what the definition says") {
  if (!machine_has_it()) return;
  const auto& problems = large_problems();
  for (const size_t i : {size_t{0}, size_t{1}}) {
    const cpu::Convolution c = convolution(problems[i]);
    CHECK(c.forward_parts() == 16);
    CHECK(c.weight_parts() == 16);
    CHECK(c.pixels() > 16 * 2 * c.patch_rows());
    CHECK(c.pointwise() == (i == 1));
  }
  CHECK(convolution(problems[2]).weight_parts() == 1);
  CHECK(convolution(problems[2]).forward_parts() > 1);
  for (const Problem& problem : problems) check(Trial(problem, 1));
}

TEST_CASE("conv2d and its gradients have the same bits for any number of threads") {
  if (!machine_has_it()) return;
  for (const Problem& problem : large_problems()) check_threads(Trial(problem, 2));
}

TEST_CASE("conv2d computes each gradient alone as it does with the others") {
  if (!machine_has_it()) return;
  check_alone(Trial({{3, 9, 8, 3}, {3, 2, 3, 5}, {.stride = {1, 2}, .padding = 1, .activation = Activation::relu}}, 3));
}

TEST_CASE("conv2d of no images, or to no channels, is empty, and its gradients are zero") {
  if (!machine_has_it()) return;
  for (const Problem& problem :
       {Problem{{0, 5, 5, 2}, {3, 3, 2, 4}, {.activation = Activation::tanh}}, Problem{{2, 5, 5, 2}, {3, 3, 2, 0}}}) {
    const Trial trial(problem, 4);
    const auto all = everything_of(trial);
    CHECK(trial.run().shape() == Shape{problem.x[0], 3, 3, problem.weight[3]});
    CHECK(all[0].empty());
    for (const Doubles& gradient : all)
      for (const double value : gradient) CHECK(value == 0);
    CHECK(all[2].size() == static_cast<size_t>(problem.weight.elements()));
  }
}

TEST_CASE("conv2d does not flip the kernel and reads nothing but zeros around the image") {
  if (!machine_has_it()) return;
  const Tensor x = Tensor::from({1, 2, 3, 4}, {1, 1, 4, 1}), weight = Tensor::from({1, 10, 100}, {1, 3, 1, 1});
  CHECK(doubles(conv2d(x, weight, {}, {.padding = {0, 1}})) == Doubles{210, 321, 432, 43});
  CHECK(doubles(conv2d(x, weight, {}, {.stride = {1, 3}, .padding = {0, 2}, .dilation = {1, 2}})) == Doubles{310, 42});
  const Tensor bias = Tensor::from({7}, {1});
  CHECK(doubles(conv2d(x, weight, bias, {.stride = {1, 40}, .padding = {0, 50}})) == Doubles{7, 7, 7});
}

TEST_CASE("conv2d keeps infinities and NaN where they are read, and nowhere else") {
  if (!machine_has_it()) return;
  Tensor x = Tensor::ones({1, 5, 5, 1});
  x.mutable_data<float>()[12] = NAN;
  const Doubles y = doubles(conv2d(x, Tensor::ones({1, 2, 1, 3})));
  for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i / 12 == 2 && (i / 3 % 4 == 1 || i / 3 % 4 == 2)));
}

TEST_CASE("conv2d refuses options out of range, naming them") {
  const Tensor x = Tensor::ones({2, 5, 6, 3}), weight = Tensor::ones({3, 3, 3, 4});
  const auto text = [&](const Conv2dOptions& options) {
    return error_of<ArgumentError>([&] { conv2d(x, weight, {}, options); });
  };
  for (const int64_t value : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX}) {
    CAPTURE(value);
    const std::string number = std::to_string(value);
    for (const Extent2d& both : {Extent2d(value, 1), Extent2d(1, value), Extent2d(value)}) {
      CHECK(contains(text({.stride = both}), "conv2d: stride " + number));
      CHECK(contains(text({.dilation = both}), "dilation " + number));
      if (value != 0) CHECK(contains(text({.padding = both}), "padding " + number));
    }
  }
  CHECK(contains(text({.activation = static_cast<Activation>(4)}), "activation 4"));
  CHECK(contains(text({.activation = static_cast<Activation>(-1)}), "activation -1"));
}

TEST_CASE("conv2d refuses tensors that do not fit, naming their shapes") {
  const auto ones = [](const Shape& shape, DType dtype = DType::f32) { return Tensor::ones(shape, dtype); };
  const Tensor x = ones({2, 5, 6, 3}), weight = ones({3, 3, 3, 4});
  const auto text = [&](const Tensor& a, const Tensor& b, const Tensor& bias, const Conv2dOptions& options = {}) {
    return error_of<ShapeError>([&] { conv2d(a, b, bias, options); });
  };
  CHECK(contains(text(ones({5, 6, 3}), weight, {}), "conv2d: input [5, 6, 3]"));
  CHECK(contains(text(x, ones({3, 3, 4}), {}), "weight [3, 3, 4]"));
  CHECK(contains(text(x, ones({3, 3, 2, 4}), {}), "its last extent must be 2"));
  CHECK(contains(text(ones({4, 1, 28, 28}), ones({3, 3, 1, 8}), {}), "must be 1; channels come last: permute(x, "));
  CHECK(contains(text(ones({2, 5, 6, 0}), ones({3, 3, 0, 4}), {}), "at least 1"));
  CHECK(contains(text(x, weight, ones({3})), "bias [3] must be [4]"));
  CHECK(contains(text(x, weight, ones({1, 4})), "bias [1, 4] must be [4]"));
  CHECK(contains(text(x, ones({6, 3, 3, 4}), {}), "reaches over 6"));
  CHECK(contains(text(x, ones({3, 7, 3, 4}), {}), "reaches over 7"));
  CHECK(contains(text(x, ones({0, 3, 3, 4}), {}), "a window of 0"));
  CHECK(contains(text(x, weight, {}, {.dilation = {1, 3}}), "reaches over 7"));
  CHECK(contains(text(x, weight, {}, {.dilation = int64_t{1} << 30}), "reaches over 2147483649"));
  CHECK(contains(text(x, weight, {}, {.padding = int64_t{1} << 30}), "conv2d: "));
  CHECK(contains(text(ones({0, int64_t{1} << 40, 6, 3}), weight, {}), "conv2d: "));
}

TEST_CASE("conv2d refuses other dtypes, and mixed ones") {
  const Tensor x = Tensor::ones({2, 5, 6, 3}), weight = Tensor::ones({3, 3, 3, 4}), bias = Tensor::ones({4});
  for (const DType dtype : {DType::f64, DType::f16, DType::u8, DType::i64}) {
    const auto text = [&](const Tensor& a, const Tensor& b, const Tensor& c) {
      return error_of<DTypeError>([&] { conv2d(a, b, c); });
    };
    CHECK(contains(text(cast(x, dtype), weight, bias), "conv2d"));
    CHECK(contains(text(x, cast(weight, dtype), bias), "conv2d"));
    CHECK(contains(text(x, weight, cast(bias, dtype)), "conv2d"));
    if (dtype != DType::f64) CHECK(contains(text(cast(x, dtype), cast(weight, dtype), {}), "cast them"));
  }
}
