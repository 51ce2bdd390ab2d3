// layer_norm and batch_norm2d on CUDA against f64 on the CPU, with and without weight and bias, with an offset that is
// large beside the numbers; running statistics, which a bad label leaves alone.
#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

// Numbers of size 1, normalised: some roundings of results and terms of size 1 to 20, and of sums of so many gradients.
void check_near(const TensorList& got, const TensorList& want, double tolerance) {
  REQUIRE(got.size() == want.size());
  for (size_t k = 0; k < got.size(); ++k) {
    CAPTURE(k);
    const std::vector<double> x = doubles(got[k]), y = doubles(want[k]);
    REQUIRE(x.size() == y.size());
    double scale = 1, worst = 0;
    for (const double value : y) scale = std::max(scale, std::abs(value));
    for (size_t i = 0; i < x.size(); ++i) worst = std::isnan(x[i]) ? HUGE_VAL : std::max(worst, std::abs(x[i] - y[i]));
    CHECK(worst <= tolerance * scale);
  }
}

// A mask of weight and bias.
struct Affine {
  bool weight, bias;
};
constexpr Affine affines[] = {{true, true}, {true, false}, {false, true}, {false, false}};

// Runs on both devices, in every order there, and checks that they agree. Gradients of each input alone are the same.
void check_norm(const Function& function, const TensorList& leaves, bool aligned = true) {
  const DType dtype = leaves[0].dtype();
  TensorList wide;
  for (const Tensor& leaf : leaves) wide.push_back(leaf ? cast(leaf, DType::f64) : leaf);
  const Tensor dy = normal_sample(leaves[0].shape(), dtype, 31);
  const TensorList expected = run(function, wide, cast(dy, DType::f64));
  const TensorList device = there(leaves, aligned);
  const Tensor upstream = there(dy, aligned);
  const TensorList got = in_every_order([&] { return run(function, device, upstream); });
  check_near(got, expected, dtype == DType::f32 ? 3e-6 : 1e-13);
  for (size_t i = 0, at = 1; i < leaves.size(); ++i) {
    if (!leaves[i]) continue;
    const TensorList alone = run(function, device, upstream, Mask{1} << i);
    CHECK(same_bits(alone[1].to(Device::cpu()), got[at++]));
  }
}

Tensor shifted(const Tensor& x, double offset) { return cast(shift(cast(x, DType::f64), offset), x.dtype()); }

Function layer_norm_of(int64_t axes) {
  return [axes](const TensorList& l) { return layer_norm(l[0], l[1], l[2], {.axes = axes}); };
}

TensorList norm_leaves(const Shape& x, const Shape& affine, Affine has, DType dtype, double offset = 0) {
  return {shifted(normal_sample(x, dtype, 21), offset), has.weight ? normal_sample(affine, dtype, 22) : Tensor(),
          has.bias ? normal_sample(affine, dtype, 23) : Tensor()};
}

struct Running {
  Tensor mean, variance;
};

// batch_norm2d of its leaves, with running statistics of its own each time: they come out in `running`.
Function batch_norm_into(Running& running) {
  return [&running](const TensorList& l) {
    const int64_t channels = l[0].shape()[3];
    running.mean = Tensor::full({channels}, 0.5, l[0].dtype(), l[0].device());
    running.variance = Tensor::full({channels}, 2, l[0].dtype(), l[0].device());
    return batch_norm2d(l[0], l[1], l[2], running.mean, running.variance);
  };
}

Tensor pick_with(int64_t label) {
  return pick(there(Tensor::ones({1, 2})), there(Tensor::from<int64_t>({label}, {1})));
}

}  // namespace

TEST_CASE("layer_norm of rows of all lengths, of a warp and of a block") {
  for (const int64_t columns : {1, 2, 3, 31, 32, 33, 64, 100, 257, 1023, 1024, 1025, 2053})
    for (const int64_t rows : {1, 3, 9}) {
      if (looks_for_races && columns > 64) continue;
      for (const DType dtype : {DType::f32, DType::f64}) {
        CAPTURE(columns);
        CAPTURE(rows);
        const Affine has = affines[static_cast<size_t>(columns + rows) % 4];
        check_norm(layer_norm_of(1), norm_leaves({rows, columns}, {columns}, has, dtype), rows != 3);
      }
    }
  check_norm(layer_norm_of(2), norm_leaves({5, 3, 4}, {3, 4}, affines[0], DType::f32));
}

TEST_CASE("layer_norm of many rows: sums of a weight's gradient in chunks" * doctest::skip(looks_for_races)) {
  for (const Affine has : affines) check_norm(layer_norm_of(1), norm_leaves({401, 13}, {13}, has, DType::f32));
  check_norm(layer_norm_of(1), norm_leaves({9001, 1}, {1}, affines[0], DType::f64));
}

TEST_CASE("an offset of 10,000 costs no digits") {
  const auto leaves = [](const Shape& x, const Shape& affine) {
    return norm_leaves(x, affine, affines[0], DType::f32, 1e4);
  };
  check_norm(layer_norm_of(1), leaves({5, 100}, {100}));
  if (!looks_for_races) check_norm(layer_norm_of(1), leaves({3, 1500}, {1500}));
  Running running;
  check_norm(batch_norm_into(running), leaves({3, 5, 7, 2}, {2}));
}

TEST_CASE("no rows: nothing is normalised, and a weight's gradient is 0") {
  const TensorList leaves = there(norm_leaves({0, 5}, {5}, affines[0], DType::f32));
  const TensorList got = run(layer_norm_of(1), leaves, Tensor::zeros({0, 5}, DType::f32, Device::cuda()));
  CHECK(doubles(got[2]) == std::vector<double>(5, 0));
  CHECK(doubles(got[3]) == std::vector<double>(5, 0));
}

TEST_CASE("batch_norm2d of channels of all numbers, its gradients and running statistics") {
  for (const int64_t channels : {1, 2, 3, 31, 32, 33, 65, 257})
    for (const Shape& images : {Shape{2, 1, 1}, Shape{3, 2, 5}, Shape{2, 9, 11}}) {
      if (looks_for_races && channels * images.elements() > 700) continue;
      for (const DType dtype : {DType::f32, DType::f64}) {
        CAPTURE(channels);
        CAPTURE(images.str());
        if (images.elements() == 2 && dtype == DType::f32) continue;  // two equal numbers divide by about nothing
        const Affine has = affines[static_cast<size_t>(channels + images[1]) % 4];
        const TensorList leaves = norm_leaves({images[0], images[1], images[2], channels}, {channels}, has, dtype);
        Running there_, here;
        check_norm(batch_norm_into(there_), leaves, channels != 3);
        batch_norm_into(here)({cast(leaves[0], DType::f64), Tensor(), Tensor()});
        check_near({there_.mean, there_.variance}, {here.mean, here.variance}, dtype == DType::f32 ? 3e-7 : 1e-14);
      }
    }
}

TEST_CASE("batch_norm2d of many pixels: statistics in chunks" * doctest::skip(looks_for_races)) {
  Running running;
  for (const int64_t channels : {1, 3})
    for (const Affine has : affines)
      check_norm(batch_norm_into(running), norm_leaves({5, 61, 59, channels}, {channels}, has, DType::f32));
}

TEST_CASE("batch_norm2d of more elements than are normalised at once" * doctest::skip(looks_for_races)) {
  const Tensor x = normal_sample({2, 400, 400, 3}, DType::f32, 3);
  const Tensor none = Tensor();
  const auto y = [&](Device device) {
    const Tensor mean = Tensor::zeros({3}, DType::f32, device), variance = Tensor::ones({3}, DType::f32, device);
    return batch_norm2d(x.to(device), none, none, mean, variance);
  };
  check_near({y(Device::cuda())}, {y(Device::cpu())}, 1e-6);
}

TEST_CASE("batch_norm2d_frozen with given statistics, and its gradients") {
  for (const int64_t channels : {1, 3, 33})
    for (const DType dtype : {DType::f32, DType::f64})
      for (const Affine has : affines) {
        if (looks_for_races && channels == 33) continue;
        CAPTURE(channels);
        const Tensor mean = normal_sample({channels}, dtype, 24), variance = positive_sample({channels}, dtype, 25);
        const Function function = [=](const TensorList& l) {
          const bool on_cuda = l[0].device() == Device::cuda();
          const auto placed = [&](const Tensor& x) { return on_cuda ? there(x) : cast(x, l[0].dtype()); };
          return batch_norm2d_frozen(l[0], l[1], l[2], placed(mean), placed(variance), 1e-5);
        };
        check_norm(function, norm_leaves({3, 5, 4, channels}, {channels}, has, dtype), channels != 3);
      }
}

TEST_CASE("an infinity or a NaN in a channel stays in it, as on the CPU") {
  Tensor x = normal_sample({2, 3, 2, 3}, DType::f32, 1);
  x.mutable_data<float>()[4] = HUGE_VALF;
  x.mutable_data<float>()[8] = std::nanf("");
  Running here, there_;
  const std::vector<double> want = doubles(batch_norm_into(here)({x, Tensor(), Tensor()}));
  const std::vector<double> got = doubles(batch_norm_into(there_)({there(x), Tensor(), Tensor()}));
  for (size_t i = 0; i < want.size(); ++i) CHECK(std::isnan(got[i]) == std::isnan(want[i]));
  const std::vector<double> mean = doubles(there_.mean);
  CHECK(std::isinf(mean[1]));
  CHECK(std::isnan(mean[2]));
  CHECK(mean[0] == doctest::Approx(doubles(here.mean)[0]));
}

TEST_CASE("after a bad label the running statistics stay as they were, until it has been told") {
  const Tensor x = there(normal_sample({2, 3, 3, 2}, DType::f32, 1)), none;
  const Tensor mean = there(Tensor::full({2}, 0.5)), variance = there(Tensor::full({2}, 2));
  const Tensor bad = pick_with(7);
  batch_norm2d(x, none, none, mean, variance);
  CHECK_THROWS_AS(bad.to(Device::cpu()), LabelError);
  CHECK(doubles(mean) == std::vector<double>{0.5, 0.5});
  CHECK(doubles(variance) == std::vector<double>{2, 2});
  batch_norm2d(x, none, none, mean, variance);
  CHECK(doubles(mean) != std::vector<double>{0.5, 0.5});
}
