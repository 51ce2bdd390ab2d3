// conv2d_max_pool2d against the two ops it is one of. ctest runs it once per instruction set.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/all_ops.h>
#include <xent/ops/conv2d.h>
#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/winograd.h>
#include <xent/xent.h>

#include "chance.h"
#include "conv2d_trial.h"
#include "machine_has_it.h"

using namespace xent;
using conv2d_trial::convolution, conv2d_trial::doubles, conv2d_trial::Doubles, conv2d_trial::Problem;

namespace {

Tensor two_ops(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  return max_pool2d(conv2d(x, weight, bias, options));
}

// The result and all gradients of one way to compute it, those added to ones.
std::vector<Doubles> result_and_gradients(const Problem& p, uint64_t seed, decltype(two_ops) way) {
  const conv2d_trial::Trial trial({p.x, p.weight, p.options, p.bias, p.dtype}, seed);
  const std::vector<Tensor> leaves = trial.leaves();
  Tape tape;
  for (const Tensor& leaf : leaves) tape.watch(leaf);
  const Tensor y = way(trial.x, trial.weight, trial.bias, p.options);
  const Tensor dy = normal_sample(y.shape(), p.dtype, seed + 9);
  Gradients sums = Gradients::zeros(leaves);
  sums.fill(1);
  tape.backward(y, sums, {.upstream = dy, .retain = true});
  const Gradients fresh = tape.backward(y, {.upstream = dy});
  std::vector<Doubles> all = {doubles(y)};
  for (const Tensor& leaf : leaves) {
    all.push_back(doubles(fresh[leaf]));
    all.push_back(doubles(sums[leaf]));
  }
  return all;
}

void check_same(const Problem& p, uint64_t seed) {
  const std::string problem = p.x.str() + " * " + p.weight.str();
  CAPTURE(problem);
  CAPTURE(seed);
  CHECK(result_and_gradients(p, seed, conv2d_max_pool2d) == result_and_gradients(p, seed, two_ops));
}

const Problem& tiled() {
  static const Problem problem = {{7, 26, 23, 32}, {3, 3, 32, 50}, {.padding = 1, .activation = Activation::relu}};
  return problem;
}

}  // namespace

TEST_CASE("conv2d_max_pool2d is max_pool2d of conv2d, result and gradients, to the bit") {
  if (!machine_has_it()) return;
  const bool poisoned = poison_fresh_memory(true);
  int by_tiles = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Chance c(seed);
    const bool large = c.one_in(2);
    const auto channels = [&] { return large ? c.any<int64_t>({16, 17, 31, 32, 40}) : c.from(1, 6); };
    Problem p;
    p.x = {c.from(large ? 3 : 0, 5), c.from(7, 19), c.from(7, 19), channels()};
    p.weight = large ? Shape{3, 3, p.x[3], channels()} : Shape{c.from(1, 4), c.from(1, 4), p.x[3], channels()};
    p.options.padding = {c.from(0, 2), c.from(0, 2)};
    if (!large) p.options.stride = {c.from(1, 2), c.from(1, 2)};
    p.options.activation = static_cast<Activation>(c.below(4));
    p.bias = c.one_in(2);
    p.dtype = c.one_in(4) ? DType::f64 : DType::f32;
    const bool fused = p.options.activation == Activation::none || p.options.activation == Activation::relu;
    by_tiles += fused && p.dtype == DType::f32 && cpu::Winograd::serves(convolution(p)) ? 1 : 0;
    check_same(p, seed);
  }
  CHECK(by_tiles >= (cpu::instruction_set() == cpu::InstructionSet::baseline ? 0 : 8));
  poison_fresh_memory(poisoned);
}

TEST_CASE("conv2d_max_pool2d of many tiles, whole ones and cut ones, is max_pool2d of conv2d") {
  if (!machine_has_it()) return;
  check_same(tiled(), 1);
  check_same({{40, 14, 14, 16}, {3, 3, 16, 16}, {}, false}, 2);
}

TEST_CASE("conv2d_max_pool2d has the same bits for any number of threads") {
  if (!machine_has_it()) return;
  const int before = threads();
  set_threads(1);
  const auto one = result_and_gradients(tiled(), 3, conv2d_max_pool2d);
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(result_and_gradients(tiled(), 3, conv2d_max_pool2d) == one);
  }
  set_threads(before);
}

TEST_CASE("a NaN is the largest, and the first of equals gets the gradient, by tiles as elsewhere") {
  if (!machine_has_it()) return;
  for (const int64_t channels : {int64_t{3}, int64_t{16}}) {
    CAPTURE(channels);
    Tensor x = Tensor::zeros({4, 18, 18, channels}), weight = Tensor::zeros({3, 3, channels, channels});
    for (int64_t c = 0; c < channels; ++c)  // the result is the middle of the image
      weight.mutable_data<float>()[(4 * channels + c) * channels + c] = 1;
    weight.set_requires_grad();
    x.set_requires_grad();
    Tape tape;
    const Tensor equal = conv2d_max_pool2d(x, weight);
    const Tensor dx = tape.backward(equal, {.upstream = Tensor::ones(equal.shape())})[x];
    const Doubles d = doubles(dx);
    const auto at = [&](int64_t i, int64_t j) { return d[static_cast<size_t>((i * 18 + j) * channels)]; };
    CHECK(at(1, 1) == doctest::Approx(1));  // the first of the first window
    CHECK(std::abs(at(1, 2)) + std::abs(at(2, 1)) + std::abs(at(2, 2)) < 1e-5);

    // Taps spread a NaN over all of a window, and its first element is taken.
    x.mutable_data<float>()[(6 * 18 + 7) * channels] = NAN;
    const Tensors both = apply(conv2d_max_pool2d_op, {x, weight, Tensor()}, Conv2dAttrs{});
    const auto window = static_cast<size_t>((2 * 8 + 3) * channels);
    CHECK(std::isnan(doubles(both[0])[window]));
    CHECK(both[1].to_vector<uint8_t>()[window] == 0);
  }
}

TEST_CASE("a NaN is the largest wherever it is in its window, and of two the first") {
  if (!machine_has_it()) return;
  const auto place_of = [](std::initializer_list<int> nans) {
    Tensor x = Tensor::from(std::vector<float>{1, 4, 3, 2}, {1, 2, 2, 1});
    for (const int nan : nans) x.mutable_data<float>()[nan] = NAN;
    const Tensors both = apply(conv2d_max_pool2d_op, {x, Tensor::ones({1, 1, 1, 1}), Tensor()}, Conv2dAttrs{});
    CHECK(std::isnan(both[0].item()) == (nans.size() > 0));
    return static_cast<int>(both[1].to_vector<uint8_t>()[0]);
  };
  CHECK(place_of({}) == 1);
  for (const int nan : {0, 1, 2, 3}) CHECK(place_of({nan}) == nan);
  CHECK(place_of({2, 3}) == 2);
  CHECK(place_of({0, 1, 2, 3}) == 0);
}

TEST_CASE("conv2d_max_pool2d of too small images, and of none") {
  if (!machine_has_it()) return;
  const Tensor weight = Tensor::ones({3, 3, 2, 5});
  CHECK_THROWS_AS(conv2d_max_pool2d(Tensor::ones({1, 3, 9, 2}), weight), ShapeError);
  CHECK_THROWS_AS(conv2d_max_pool2d(Tensor::ones({1, 9, 9, 3}), weight), ShapeError);
  CHECK(conv2d_max_pool2d(Tensor::ones({1, 4, 5, 2}), weight).shape() == Shape{1, 1, 1, 5});
  CHECK(conv2d_max_pool2d(Tensor::ones({0, 9, 8, 2}), weight).shape() == Shape{0, 3, 3, 5});
}

TEST_CASE("a Sequential computes a convolution and the pool behind it in one op, if the pool is 2 x 2") {
  if (!machine_has_it()) return;
  Generator random(1);
  const Tensor x = normal_sample({2, 9, 9, 1}, DType::f32, 1);
  const auto launches = [&](const Op& op, Sequential& model) {
    Profile profile;
    model(x);
    int64_t count = 0;
    for (const Profile::Row& row : profile.rows())
      if (row.op == &op) count += row.launches;
    return count;
  };
  const Conv2d conv(1, 4, 3, random, {.activation = Activation::relu});
  Sequential fused(conv, MaxPool2d(2), Flatten()), last(conv), odd(conv, MaxPool2d(3)),
      overlapping(conv, MaxPool2d({.window = 2, .stride = 1})), twice(conv, MaxPool2d(2), MaxPool2d(2)),
      padded(conv, MaxPool2d({.window = 2, .stride = 2, .padding = 1}));
  Sequential strided(conv, MaxPool2d({.window = 2, .stride = 2}));
  CHECK(launches(conv2d_max_pool2d_op, strided) == 1);
  CHECK(launches(conv2d_max_pool2d_op, fused) == 1);
  CHECK(launches(conv2d_op, fused) == 0);
  CHECK(launches(max_pool2d_op, fused) == 0);
  for (Sequential* model : {&last, &odd, &overlapping, &padded}) {
    CHECK(launches(conv2d_max_pool2d_op, *model) == 0);
    CHECK(launches(conv2d_op, *model) == 1);
  }
  CHECK(launches(max_pool2d_op, twice) == 1);
  const Tensor y = max_pool2d(conv2d(x, conv.weight, conv.bias, conv.options));
  CHECK(doubles(fused(x)) == doubles(y));
  CHECK(doubles(conv.max_pooled(x)) == doubles(y));

  struct Doubled : Conv2d {
    explicit Doubled(const Conv2d& other) : Conv2d(other) {}
    Tensor forward(const Tensor& images) override { return Conv2d::forward(images) * 2; }
  };
  struct Shifted : MaxPool2d {
    Shifted() : MaxPool2d(2) {}
    Tensor forward(const Tensor& images) override { return MaxPool2d::forward(images) + 1; }
  };
  Sequential own_convolution(Doubled(conv), MaxPool2d(2)), own_pool(conv, Shifted());
  CHECK(doubles(own_convolution(x)) == doubles(y * 2));
  CHECK(doubles(own_pool(x)) == doubles(y + 1));
}
