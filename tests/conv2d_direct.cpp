// conv2d that reads the images where they are, against its definition and against gathered patches. ctest runs it once
// per instruction set; where the baseline computes, all of it goes by patches, and must still be right.
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/dispatch.h>
#include <xent/ops/cpu/direct_convolution.h>
#include <xent/ops/cpu/instruction_set.h>
#include <xent/xent.h>

#include "chance.h"
#include "conv2d_trial.h"
#include "machine_has_it.h"

using namespace xent;
using namespace conv2d_trial;

namespace {

bool is_wide() { return cpu::instruction_set() != cpu::InstructionSet::baseline; }

bool serves(const Problem& p, bool images = false) {
  return dispatch_compute(p.dtype, [&]<class T>() {
    using Direct = cpu::DirectConvolution<T>;
    return images ? Direct::serves_images(convolution(p)) : Direct::serves(convolution(p));
  });
}

// Any strides, dilations, taps and channels, with padding that the direct way takes.
Problem problem(Chance& c) {
  Problem p;
  const auto pair = [&](int64_t low, int64_t high) { return Extent2d(c.from(low, high), c.from(low, high)); };
  const Extent2d kernel = c.one_in(8) ? Extent2d(1) : c.one_in(3) ? Extent2d(c.from(2, 7)) : pair(1, 5);
  p.options.dilation = c.one_in(3) ? pair(1, 3) : Extent2d(1);
  p.options.stride = c.one_in(2) ? Extent2d(1) : pair(1, 4);
  p.options.activation = static_cast<Activation>(c.below(4));
  const Extent2d reach{(kernel.height - 1) * p.options.dilation.height, (kernel.width - 1) * p.options.dilation.width};
  if (c.one_in(2)) p.options.padding = {c.from(0, reach.height), c.from(0, reach.width)};
  const auto extent = [&](int64_t far, int64_t padding) {
    return std::max<int64_t>(far + 1 - 2 * padding, 1) + c.from(2, c.one_in(4) ? 40 : 20);
  };
  p.x = {c.from(1, 4), extent(reach.height, p.options.padding.height), extent(reach.width, p.options.padding.width),
         c.any<int64_t>({1, 2, 3, 6, 8, 15, 17, 33, 40})};
  p.weight = {kernel.height, kernel.width, p.x[3], c.any<int64_t>({1, 2, 5, 6, 8, 16, 17, 31, 32, 33, 70})};
  p.bias = c.one_in(2);
  p.dtype = c.one_in(3) ? DType::f64 : DType::f32;
  return p;
}

// Several blocks of rows in each of several parts, with and without padding, and blocks of single rows.
const std::vector<Problem>& large_problems() {
  static const std::vector<Problem> problems = {
      {{9, 28, 27, 1}, {3, 3, 1, 32}, {.activation = Activation::relu}},
      {{3, 61, 40, 9}, {5, 4, 9, 17}, {.padding = {4, 1}, .activation = Activation::tanh}},
      {{2, 70, 71, 8}, {3, 3, 8, 40}, {.stride = 2, .padding = 1}, false},
      {{1, 19, 900, 12}, {3, 5, 12, 20}, {.padding = {0, 3}, .dilation = {2, 3}}},
      {{2, 50, 31, 8}, {3, 2, 8, 33}, {.padding = {2, 1}}, true, DType::f64},
  };
  return problems;
}

template <class T>
std::vector<T> random_elements(int64_t count, uint64_t seed) {
  const Tensor x = normal_sample({count}, sizeof(T) == 4 ? DType::f32 : DType::f64, seed);
  return x.to_vector<T>();
}

template <class T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  double worst = 0, scale = 1;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(a[i] - b[i])));
    scale = std::max(scale, std::abs(static_cast<double>(b[i])));
  }
  return worst / scale / (sizeof(T) == 4 ? 1e-5 : 1e-13);
}

// The three products by patches, and directly: no activation, no bias.
template <class T>
void compare(const cpu::Convolution& c, uint64_t seed) {
  const auto size = [](int64_t elements) { return static_cast<size_t>(elements); };
  const size_t images = size(c.batch * c.height * c.width * c.in), weights = size(c.depth() * c.out);
  const auto x = random_elements<T>(static_cast<int64_t>(images), seed);
  const auto weight = random_elements<T>(static_cast<int64_t>(weights), seed + 1);
  const auto dy = random_elements<T>(c.pixels() * c.out, seed + 2);

  std::vector<T> y(dy.size()), dx(images), dw(weights), scratch(size(c.scratch(cpu::Convolution::most_parts)));
  cpu::convolve<T>(c, x.data(), weight.data(), {}, y.data(), scratch.data());
  std::vector<T> transposed(weights), partials(size(c.weight_parts()) * weights);
  for (size_t i = 0; i < weights; ++i) transposed[i % size(c.out) * size(c.depth()) + i / size(c.out)] = weight[i];
  cpu::convolve_grad_images<T>(c, dy.data(), transposed.data(), 0, dx.data(), scratch.data());
  cpu::convolve_grad_weight<T>(c, x.data(), dy.data(), partials.data(), scratch.data());
  for (size_t i = 0; i < partials.size(); ++i) dw[i % weights] += partials[i];

  const cpu::DirectConvolution<T> direct(c);
  const bool with_images = cpu::DirectConvolution<T>::serves_images(c);
  std::vector<T> y2(y.size()), dx2(images), dw2(weights), first(size(direct.forward_scratch()), T(NAN)),
      second(size(direct.backward_scratch(with_images)), T(NAN));
  direct.forward(x.data(), weight.data(), {}, y2.data(), first.data());
  direct.backward(x.data(), weight.data(), {nullptr, dy.data(), Activation::none},
                  {with_images ? dx2.data() : nullptr, 0}, {dw2.data(), 0}, {nullptr, 0}, second.data());
  CHECK(distance(y2, y) < 1);
  CHECK(distance(dw2, dw) < 1);
  if (with_images) CHECK(distance(dx2, dx) < 1);
}

}  // namespace

TEST_CASE("the direct way takes all taps and strides, where bands of rows and the weight are small") {
  if (!machine_has_it()) return;
  const bool wide = is_wide();
  const Shape x{8, 28, 28, 1}, weight{5, 5, 1, 6};
  CHECK(serves({x, weight}) == wide);
  CHECK(serves({x, weight, {.stride = 2, .padding = 4, .dilation = 3}}) == wide);
  CHECK(serves({x, {1, 1, 1, 6}, {.stride = 3}}) == wide);
  CHECK_FALSE(serves({x, {1, 1, 1, 6}}));                 // a product as it is
  CHECK_FALSE(serves({x, weight, {.padding = {5, 0}}}));  // results that read nothing
  CHECK_FALSE(serves({x, weight, {.padding = {0, 5}}}));
  CHECK_FALSE(serves({x, {5, 5, 1, 6000}}));
  CHECK_FALSE(serves({{8, 5, 5, 16}, {5, 5, 16, 120}}));  // one pixel for a weight that large
  CHECK_FALSE(serves({{8, 30, 3, 1}, {1, 1, 1, 6}, {.stride = {2, 1}}}));
  CHECK_FALSE(serves({{1, 4, 4, 1}, {2, 2, 1, 1}, {.stride = 1 << 30, .padding = 1 << 29, .dilation = 1 << 30}}));
  CHECK_FALSE(serves({{1, 1, 40000, 9}, {1, 3, 9, 1}}));
  CHECK_FALSE(serves({{1, 0, 4, 1}, {2, 2, 1, 1}, {.padding = 1}}));
  CHECK(serves({{8, 28, 28, 16}, {5, 5, 16, 6}}, true) == wide);
  CHECK_FALSE(serves({{8, 28, 28, 16}, {5, 5, 16, 6}, {.stride = {1, 2}}}, true));
  CHECK_FALSE(serves({x, weight}, true));  // one channel would fill no vector
}

TEST_CASE("conv2d read directly and its gradients, also added to others, are what the definition says") {
  if (!machine_has_it()) return;
  const bool poisoned = poison_fresh_memory(true);
  int served = 0, images = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    const Problem p = problem(c);
    served += serves(p) ? 1 : 0;
    images += serves(p, true) ? 1 : 0;
    check(Trial(p, seed));
  }
  CHECK(served >= (is_wide() ? 80 : 0));
  CHECK(images >= (is_wide() ? 15 : 0));
  poison_fresh_memory(poisoned);
}

TEST_CASE("conv2d of many rows is what the definition says") {
  if (!machine_has_it()) return;
  for (const Problem& p : large_problems()) {
    CHECK(serves(p) == is_wide());
    check(Trial(p, 1));
  }
}

TEST_CASE("the three products read directly are those of gathered patches") {
  if (!machine_has_it() || !is_wide()) return;
  for (uint64_t seed = 1000; seed < 1200; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    const Problem p = problem(c);
    if (serves(p)) dispatch_compute(p.dtype, [&]<class T>() { compare<T>(convolution(p), seed); });
  }
  for (const Problem& p : large_problems())
    dispatch_compute(p.dtype, [&]<class T>() { compare<T>(convolution(p), 1); });
}

TEST_CASE("conv2d read directly and its gradients have the same bits for any number of threads") {
  if (!machine_has_it()) return;
  for (const Problem& p : large_problems()) check_threads(Trial(p, 2));
}

TEST_CASE("conv2d read directly computes each gradient alone as it does with the others, but for rounding") {
  if (!machine_has_it()) return;
  for (const Problem& p : large_problems()) {
    const Trial trial(p, 3);
    const std::vector<Tensor> leaves = trial.leaves();
    const auto all = everything_of(trial);
    for (size_t i = 0; i < leaves.size(); ++i) {
      Tape tape;
      tape.watch(leaves[i]);
      const Tensor y = trial.run();
      CHECK(trial.distance(tape.backward(y, {.upstream = trial.dy})[leaves[i]], all[i + 1]) < 1);
    }
  }
}

TEST_CASE("conv2d read directly keeps NaN where it is read, and nowhere else") {
  if (!machine_has_it()) return;
  for (const Activation activation : {Activation::none, Activation::relu})
    for (const int64_t in : {1, 8, 15}) {
      Problem p{{2, 9, 30, in}, {3, 3, in, 37}, {.padding = 1, .activation = activation}};
      Trial trial(p, 5);
      const int64_t at = ((9 + 4) * 30 + 13) * in;
      trial.x.mutable_data<float>()[at] = NAN;
      const Doubles y = doubles(trial.run());
      trial.problem.options.activation = Activation::none;
      const Doubles want = trial.result();
      for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == std::isnan(want[i]));

      trial = Trial(p, 6);
      trial.dy.mutable_data<float>()[((9 + 4) * 30 + 13) * 37 + 36] = NAN;
      const auto all = everything_of(trial);
      const std::vector<Doubles> gradients = trial.gradients(all[0]);
      for (size_t g = 0; g < 3; ++g)
        for (size_t i = 0; i < gradients[g].size(); ++i)
          CHECK(std::isnan(all[g + 1][i]) == std::isnan(gradients[g][i]));
    }
}
