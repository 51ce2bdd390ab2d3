// conv2d and conv2d_max_pool2d on CUDA: exact on whole numbers, within rounding on others, in every order.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

constexpr DType dtypes[] = {DType::f32, DType::f64};
constexpr Activation activations[] = {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid};

struct Problem {
  Shape x, weight;
  Conv2dOptions options = {};
  bool bias = true;
};

// By columns, by the images themselves, and with one channel; every option, in both directions apart.
const std::vector<Problem> problems = {
    {{1, 1, 1, 1}, {1, 1, 1, 1}},
    {{2, 5, 7, 3}, {3, 3, 3, 5}},
    {{3, 4, 6, 2}, {3, 2, 2, 4}, {.padding = {1, 0}}, false},
    {{2, 7, 5, 2}, {2, 3, 2, 3}, {.stride = {2, 1}, .padding = {0, 2}}},
    {{1, 9, 8, 3}, {3, 3, 3, 2}, {.stride = {1, 3}, .padding = 1, .dilation = {2, 1}}},
    {{2, 6, 11, 2}, {2, 4, 2, 2}, {.stride = 2, .padding = {2, 3}, .dilation = {1, 2}}},
    {{2, 3, 3, 2}, {3, 3, 2, 2}, {.stride = 3, .padding = 3, .dilation = 2}},
    {{2, 5, 4, 3}, {1, 1, 3, 7}},
    {{2, 5, 4, 3}, {1, 1, 3, 2}, {.stride = 2}},
    {{2, 5, 4, 3}, {1, 1, 3, 2}, {.padding = 1}},
    {{1, 6, 6, 33}, {3, 3, 33, 31}, {.padding = 1}},
    {{1, 3, 4, 100}, {2, 3, 100, 1}},
    {{2, 9, 10, 1}, {3, 3, 1, 5}},
    {{3, 8, 7, 1}, {5, 5, 1, 33}, {.padding = 2}},
    {{2, 7, 8, 1}, {2, 3, 1, 4}, {.stride = {2, 3}, .padding = {1, 2}, .dilation = {3, 2}}, false},
    {{1, 12, 11, 1}, {9, 8, 1, 2}, {.padding = 3}},
    {{2, 4, 3, 1}, {1, 1, 1, 3}},
};

TensorList leaves_of(const Problem& p, DType dtype, bool whole = true) {
  const auto make = [&](const Shape& shape, uint64_t seed) {
    return whole ? integers(shape, dtype, seed) : normal_sample(shape, dtype, seed);
  };
  return {make(p.x, 1), make(p.weight, 2), p.bias ? make({p.weight[3]}, 3) : Tensor()};
}

Function conv2d_of(Conv2dOptions options, Activation activation) {
  options.activation = activation;
  return [=](const TensorList& l) { return conv2d(l[0], l[1], l[2], options); };
}

Function fused_of(Conv2dOptions options, Activation activation) {
  options.activation = activation;
  return [=](const TensorList& l) { return conv2d_max_pool2d(l[0], l[1], l[2], options); };
}

std::string name_of(const Problem& p) { return p.x.str() + " * " + p.weight.str(); }

}  // namespace

TEST_CASE("conv2d is exact on whole numbers, its gradients too") {
  for (const Problem& p : problems)
    for (const DType dtype : dtypes)
      for (const Activation activation : {Activation::none, Activation::relu}) {
        const std::string problem = name_of(p);
        CAPTURE(problem);
        check_exact(conv2d_of(p.options, activation), leaves_of(p, dtype));
      }
}

TEST_CASE("conv2d is within the rounding of its sums for every activation") {
  for (const DType dtype : dtypes)
    for (const Activation activation : activations)
      for (const Problem& p : {problems[4], problems[7], problems[13]})
        check_close(conv2d_of(p.options, activation), conv2d_of(p.options, Activation::none),
                    leaves_of(p, dtype, false), 25 * 33);
}

// 24 MB are the patches of 1553 pixels here: 4 images of 360, or a part of one of 2500.
TEST_CASE("conv2d of more patches than are gathered at once is the same sums in parts") {
  if (looks_for_races) return;
  check_exact(conv2d_of({}, Activation::relu), leaves_of({{5, 24, 22, 81}, {5, 5, 81, 1}}, DType::f64), Effort::once);
  check_exact(conv2d_of({.padding = 2}, Activation::none), leaves_of({{2, 50, 50, 81}, {5, 5, 81, 1}}, DType::f64),
              Effort::once);
}

TEST_CASE("a patch of more than what is gathered at once is gathered alone") {
  if (looks_for_races) return;
  const Problem p = {{1, 1, 3, 3200000}, {1, 1, 3200000, 1}, {.stride = 2}, false};
  const TensorList leaves = leaves_of(p, DType::f64);
  const Function f = conv2d_of(p.options, Activation::none);
  CHECK(doubles(f(there(leaves))) == doubles(f(leaves)));
}

// 4096 blocks of 256 threads, or of one patch each, are the most that are started.
TEST_CASE("convolutions of more elements than there are threads are as those of few") {
  if (looks_for_races) return;
  const auto once = [](const Function& f, const Problem& p) { check_exact(f, leaves_of(p, DType::f32), Effort::once); };
  once(conv2d_of({}, Activation::relu), {{1, 1030, 1030, 1}, {1, 1, 1, 1}});
  once(conv2d_of({}, Activation::none), {{1, 1030, 1030, 1}, {2, 1, 1, 1}});
  once(conv2d_of({.padding = 1}, Activation::none), {{1, 65, 65, 130}, {1, 1, 130, 1}});
  once(fused_of({}, Activation::relu), {{1, 2060, 2060, 1}, {1, 1, 1, 1}});
}

TEST_CASE("conv2d of no images, to no channels, or of padding alone") {
  for (const DType dtype : dtypes)
    for (const int64_t in : {1, 2})
      for (const Activation activation : {Activation::none, Activation::relu}) {
        check_exact(conv2d_of({}, activation), leaves_of({{0, 4, 5, in}, {3, 3, in, 2}}, dtype));
        check_exact(conv2d_of({}, activation), leaves_of({{2, 4, 5, in}, {3, 3, in, 0}}, dtype));
        check_exact(conv2d_of({.padding = 2}, activation), leaves_of({{2, 0, 5, in}, {3, 3, in, 2}}, dtype));
        check_exact(conv2d_of({.padding = 2}, activation), leaves_of({{2, 3, 0, in}, {3, 3, in, 2}}, dtype));
      }
}

TEST_CASE("padding is multiplied like any element: under an infinite weight it gives NaN") {
  for (const int64_t in : {1, 2}) {
    std::vector<float> weight(static_cast<size_t>(4 * in), 1);
    weight[0] = std::numeric_limits<float>::infinity();
    const Tensor x = Tensor::ones({1, 2, 2, in}), w = Tensor::from(weight, {2, 2, in, 1});
    const std::vector<double> y = doubles(conv2d(there(x), there(w), {}, {.padding = 1}));
    const std::vector<double> expected = doubles(conv2d(x, w, {}, {.padding = 1}));
    for (size_t i = 0; i < y.size(); ++i) {
      CAPTURE(i);
      CHECK(std::isnan(y[i]) == std::isnan(expected[i]));
      CHECK(std::isinf(y[i]) == std::isinf(expected[i]));
    }
  }
}

TEST_CASE("conv2d_max_pool2d is exact on whole numbers, where many are equal, its gradients too") {
  for (const Problem& p : problems) {
    if (p.x[1] < 4) continue;
    for (const DType dtype : dtypes)
      for (const Activation activation : {Activation::none, Activation::relu}) {
        const std::string problem = name_of(p);
        CAPTURE(problem);
        Conv2dOptions options = p.options;
        options.padding = {std::max<int64_t>(options.padding.height, 1), std::max<int64_t>(options.padding.width, 1)};
        check_exact(fused_of(options, activation), leaves_of(p, dtype));
      }
  }
}

// Without an activation conv2d has its bias from cuBLASLt's epilogue, which may come with another order of the sums:
// whole numbers then, which are exact in any.
TEST_CASE("conv2d_max_pool2d has the bits of conv2d and then max_pool2d, forward and backward") {
  for (const Problem& p : {problems[1], problems[7], problems[13]})
    for (const DType dtype : dtypes)
      for (const Activation activation : activations) {
        const TensorList leaves = there(leaves_of(p, dtype, activation == Activation::none));
        const Function two = [conv = conv2d_of(p.options, activation)](const TensorList& l) {
          return max_pool2d(conv(l));
        };
        const Function fused = fused_of(p.options, activation);
        const Tensor upstream = there(normal_sample(fused(leaves).shape(), dtype, 9));
        const TensorList expected = run(two, leaves, upstream), got = run(fused, leaves, upstream);
        for (size_t i = 0; i < got.size(); ++i) {
          CAPTURE(i);
          CHECK(same_bits(got[i].to(Device::cpu()), expected[i].to(Device::cpu())));
        }
      }
}

TEST_CASE("conv2d_max_pool2d of no images or to no channels") {
  for (const DType dtype : dtypes) {
    check_exact(fused_of({}, Activation::relu), leaves_of({{0, 4, 5, 2}, {3, 3, 2, 2}}, dtype));
    check_exact(fused_of({}, Activation::relu), leaves_of({{2, 4, 5, 2}, {3, 3, 2, 0}}, dtype));
    check_exact(fused_of({.padding = 2}, Activation::relu), leaves_of({{2, 0, 5, 2}, {3, 3, 2, 2}}, dtype));
  }
}

TEST_CASE("in conv2d_max_pool2d a NaN is larger than all, and the first of two is taken") {
  const float nan = std::nanf("");
  const Tensor one = Tensor::ones({1, 1, 1, 1});
  for (int first = 0; first < 4; ++first)
    for (int second = first; second < 4; ++second) {
      std::vector<float> images = {1, 5, 3, 5}, expected(4);
      images[static_cast<size_t>(first)] = images[static_cast<size_t>(second)] = nan;
      expected[static_cast<size_t>(first)] = nan;  // what the weight's gradient is multiplied by
      const TensorList leaves = there(TensorList{Tensor::from(images, {1, 2, 2, 1}), one});
      const auto fused = [](const TensorList& l) { return conv2d_max_pool2d(l[0], l[1]); };
      const TensorList got = run(fused, leaves, there(one));
      CHECK(std::isnan(got[0].item()));
      const std::vector<double> dx = doubles(got[1]);
      for (size_t i = 0; i < 4; ++i) CHECK(dx[i] == (static_cast<int>(i) == first ? 1 : 0));
    }
}
