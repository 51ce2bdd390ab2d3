// batch_norm2d, batch_norm2d_frozen and layer_norm against loops in f64 with the chain rule written out, step by step.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

#include "replay_mode.h"

using namespace xent;

namespace {

using Doubles = std::vector<double>;
constexpr double epsilon = 1e-5;
Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

struct Reference {
  Doubles y, dx, dw, db, mean, variance;
};

// Element i belongs to group group(i), whose statistics it is normalised with, and to weight affine(i).
template <class Group, class Affine>
Reference reference(const Tensor& input, const Tensor& weight, const Tensor& bias, const Tensor& upstream,
                    size_t groups, Group group, Affine affine) {
  const Doubles x = doubles(input), w = doubles(weight), b = doubles(bias), dy = doubles(upstream);
  const size_t n = x.size();
  const double count = static_cast<double>(n) / static_cast<double>(groups);
  Reference r{Doubles(n), Doubles(n), Doubles(w.size()), Doubles(w.size()), Doubles(groups), Doubles(groups)};
  for (size_t i = 0; i < n; ++i) r.mean[group(i)] += x[i] / count;
  for (size_t i = 0; i < n; ++i) r.variance[group(i)] += std::pow(x[i] - r.mean[group(i)], 2) / count;
  Doubles d_variance(groups), d_mean(groups), spread(groups);
  for (size_t i = 0; i < n; ++i) {
    const size_t g = group(i), a = affine(i);
    const double s = std::sqrt(r.variance[g] + epsilon), h = (x[i] - r.mean[g]) / s, dh = dy[i] * w[a];
    r.y[i] = h * w[a] + b[a];
    r.dw[a] += dy[i] * h;
    r.db[a] += dy[i];
    d_variance[g] += dh * (x[i] - r.mean[g]) * -0.5 / (s * s * s);
    d_mean[g] -= dh / s;
    spread[g] += x[i] - r.mean[g];
  }
  for (size_t i = 0; i < n; ++i) {
    const size_t g = group(i);
    const double s = std::sqrt(r.variance[g] + epsilon), whole = d_mean[g] - 2 * d_variance[g] * spread[g] / count;
    r.dx[i] = dy[i] * w[affine(i)] / s + d_variance[g] * 2 * (x[i] - r.mean[g]) / count + whole / count;
  }
  return r;
}

void check_near(const Tensor& actual, const Doubles& expected, double tolerance) {
  const Doubles values = doubles(actual);
  REQUIRE(values.size() == expected.size());
  double worst = 0, scale = 1;
  for (size_t i = 0; i < values.size(); ++i) {
    worst = std::max(worst, std::abs(values[i] - expected[i]));
    scale = std::max(scale, std::abs(expected[i]));
  }
  CHECK(worst <= tolerance * scale);
}

struct Case {
  Tensor x, weight, bias, mean, variance, upstream;

  Case(const Shape& shape, const Shape& affine, DType dtype)
      : x(normal_sample(shape, dtype, 11)),
        weight(normal_sample(affine, dtype, 12)),
        bias(normal_sample(affine, dtype, 13)),
        mean(normal_sample(affine, dtype, 14)),
        variance(positive_sample(affine, dtype, 15)),
        upstream(normal_sample(shape, dtype, 16)) {}

  // y, dx, dw, db of a function of x, weight and bias.
  template <class F>
  std::array<Tensor, 4> run(const F& f) const {
    Tape tape;
    for (const Tensor* input : {&x, &weight, &bias}) tape.watch(*input);
    const Tensor y = f(x, weight, bias);
    const Gradients gradients = tape.backward(y, {.upstream = upstream});
    return {y, gradients[x], gradients[weight], gradients[bias]};
  }

  template <class F>
  void check(const F& f, const Reference& r) const {
    const double tolerance = x.dtype() == DType::f64 ? 1e-12 : 1e-5;
    const auto results = run(f);
    check_near(results[0], r.y, tolerance);
    check_near(results[1], r.dx, tolerance);
    check_near(results[2], r.dw, tolerance);
    check_near(results[3], r.db, tolerance);
  }
};

const std::vector<Shape> images = {{2, 3, 5, 7}, {1, 1, 2, 1}, {7, 53, 51, 2}, {3, 9, 7, 150}, {2, 70, 70, 1}};

}  // namespace

TEST_CASE("batch_norm2d is the formula, forward and backward, and blends its statistics in as PyTorch does") {
  for (const DType dtype : {DType::f64, DType::f32})
    for (const Shape& shape : images) {
      CAPTURE(shape);
      const auto channels = static_cast<size_t>(shape[3]);
      const Case c(shape, {shape[3]}, dtype);
      const auto channel = [=](size_t i) { return i % channels; };
      const Reference r = reference(c.x, c.weight, c.bias, c.upstream, channels, channel, channel);
      Tensor mean = c.mean.clone(), variance = c.variance.clone();
      c.check([&](auto& x, auto& w, auto& b) { return batch_norm2d(x, w, b, mean, variance, {0.3, epsilon}); }, r);
      const double n = static_cast<double>(shape.elements()) / static_cast<double>(channels);
      Doubles new_mean = doubles(c.mean), new_variance = doubles(c.variance);
      for (size_t k = 0; k < channels; ++k) {
        new_mean[k] = 0.7 * new_mean[k] + 0.3 * r.mean[k];
        new_variance[k] = 0.7 * new_variance[k] + 0.3 * r.variance[k] * n / (n - 1);
      }
      check_near(mean, new_mean, dtype == DType::f64 ? 1e-14 : 1e-6);
      check_near(variance, new_variance, dtype == DType::f64 ? 1e-13 : 1e-6);
    }
}

TEST_CASE("batch_norm2d_frozen uses the statistics it is given, and leaves them") {
  for (const DType dtype : {DType::f64, DType::f32})
    for (const Shape& shape : images) {
      CAPTURE(shape);
      const auto channels = static_cast<size_t>(shape[3]);
      const Case c(shape, {shape[3]}, dtype);
      const Doubles x = doubles(c.x), w = doubles(c.weight), b = doubles(c.bias), m = doubles(c.mean),
                    v = doubles(c.variance), dy = doubles(c.upstream);
      Reference r{Doubles(x.size()), Doubles(x.size()), Doubles(channels), Doubles(channels), {}, {}};
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t k = i % channels;
        const double s = std::sqrt(v[k] + epsilon);
        r.y[i] = (x[i] - m[k]) / s * w[k] + b[k];
        r.dx[i] = dy[i] * w[k] / s;
        r.dw[k] += dy[i] * (x[i] - m[k]) / s;
        r.db[k] += dy[i];
      }
      c.check([&](const auto& x0, const auto& w0,
                  const auto& b0) { return batch_norm2d_frozen(x0, w0, b0, c.mean, c.variance, epsilon); },
              r);
      CHECK(doubles(c.mean) == m);
      CHECK(doubles(c.variance) == v);
    }
}

TEST_CASE("layer_norm is the formula, forward and backward, over one axis and several") {
  struct Layout {
    Shape x, row;
    int64_t axes;
  };
  for (const DType dtype : {DType::f64, DType::f32})
    for (const Layout& l : {Layout{{5, 7}, {7}, 1},
                            {{11}, {11}, 1},
                            {{2, 3, 4, 5}, {3, 4, 5}, 3},
                            {{301, 133}, {133}, 1},
                            {{3, 150, 120}, {150, 120}, 2}}) {
      const auto columns = static_cast<size_t>(l.row.elements());
      const Case c(l.x, l.row, dtype);
      c.check(
          [&](auto& x, auto& w, auto& b) {
            return layer_norm(x, w, b, {l.axes, epsilon});
          },
          reference(
              c.x, c.weight, c.bias, c.upstream, static_cast<size_t>(c.x.elements()) / columns,
              [=](size_t i) { return i / columns; }, [=](size_t i) { return i % columns; }));
    }
}

TEST_CASE("without weight and bias they stand for 1 and 0, to the bit") {
  const Case c({2, 3, 5, 4}, {4}, DType::f32);
  const Tensor ones = Tensor::ones({4}), zeros = Tensor::zeros({4});
  const auto batch = [&](const Tensor& w, const Tensor& b) {
    return doubles(batch_norm2d(c.x, w, b, c.mean.clone(), c.variance.clone()));
  };
  CHECK(batch({}, {}) == batch(ones, zeros));
  const auto frozen = [&](const Tensor& w, const Tensor& b) {
    return doubles(batch_norm2d_frozen(c.x, w, b, c.mean, c.variance));
  };
  CHECK(frozen({}, {}) == frozen(ones, zeros));
  CHECK(doubles(layer_norm(c.x)) == doubles(layer_norm(c.x, ones, zeros)));
}

TEST_CASE("a common offset of 1e4 costs no digits in f32") {
  // Multiples of 1/1024 below 4 are exact in f32 also behind 1e4, so both inputs have the same exact result.
  const Case c({5, 40, 41, 3}, {3}, DType::f32);
  std::vector<float> near = c.x.to_vector<float>(), far = near;
  for (size_t i = 0; i < near.size(); ++i) {
    near[i] = std::round(std::clamp(near[i], -3.0f, 3.0f) * 1024) / 1024;
    far[i] = near[i] + 1e4f;
  }
  const auto all = [&](const std::vector<float>& values, const auto& f) {
    Case moved = c;
    moved.x = Tensor::from(values, c.x.shape());
    return moved.run(f);
  };
  const auto batch = [&](const Tensor& x, const Tensor& w, const Tensor& b) {
    return batch_norm2d(x, w, b, c.mean.clone(), c.variance.clone());
  };
  const auto layer = [](const Tensor& x, const Tensor& w, const Tensor& b) { return layer_norm(x, w, b); };
  const auto compare = [&](const auto& f) {
    const auto expected = all(near, f), actual = all(far, f);
    for (size_t k = 0; k < actual.size(); ++k) check_near(actual[k], doubles(expected[k]), 1e-6);
  };
  compare(batch);
  compare(layer);
}

TEST_CASE("one, two and three threads give the same bits, running statistics included") {
  const int before = threads();
  const Case c({7, 53, 51, 5}, {5}, DType::f32);
  const Case wide({3, 9, 40, 150}, {150}, DType::f32);
  const auto run = [&] {
    std::vector<Doubles> results;
    for (const Case* k : {&c, &wide}) {
      Tensor mean = k->mean.clone(), variance = k->variance.clone();
      const auto add = [&](const std::array<Tensor, 4>& some) {
        for (const Tensor& result : some) results.push_back(doubles(result));
      };
      add(k->run([&](auto& x, auto& w, auto& b) { return batch_norm2d(x, w, b, mean, variance); }));
      add(k->run([&](auto& x, auto& w, auto& b) { return batch_norm2d_frozen(x, w, b, mean, variance); }));
      add(k->run([&](auto& x, auto& w, auto& b) { return layer_norm(x, w, b); }));
      results.push_back(doubles(mean));
      results.push_back(doubles(variance));
    }
    return results;
  };
  set_threads(1);
  const auto one = run();
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(run() == one);
  }
  set_threads(before);
}

TEST_CASE("a NaN stays in its channel, or in its row") {
  const Tensor x = Tensor::from({1, 2, NAN, 4, 3, 7}, {1, 1, 3, 2}), row = Tensor::from({1, NAN, 2, 4}, {2, 2});
  const Doubles y = doubles(batch_norm2d(x, {}, {}, Tensor::zeros({2}), Tensor::ones({2}))),
                z = doubles(layer_norm(row));
  for (const size_t i : {0u, 2u, 4u}) CHECK(std::isnan(y[i]));
  for (const size_t i : {1u, 3u, 5u}) CHECK(std::isfinite(y[i]));
  CHECK((std::isnan(z[0]) && std::isnan(z[1]) && std::isfinite(z[2]) && std::isfinite(z[3])));
}

// ---- an op that updates inputs, on tapes and in Steps ----

TEST_CASE("to a tape running statistics are constants, and one layer may be used twice on it") {
  const Case c({2, 3, 5, 4}, {4}, DType::f64);
  Tensor mean = c.mean.clone(), variance = c.variance.clone();
  Tape tape;
  tape.watch(c.x);
  const Tensor first = batch_norm2d(c.x, c.weight, c.bias, mean, variance);
  const Tensor second = batch_norm2d(first, c.weight, c.bias, mean, variance);
  const Tensor loss = sum(mul(second, mean.clone()));
  const Doubles once = doubles(tape.backward(loss, {.retain = true})[c.x]);
  CHECK(doubles(tape.backward(loss)[c.x]) == once);
  Tape alone;  // the running statistics play no part in what is normalised in training
  alone.watch(c.x);
  const auto fresh = [&](const Tensor& x) {
    return batch_norm2d(x, c.weight, c.bias, c.mean.clone(), c.variance.clone());
  };
  CHECK(doubles(alone.backward(sum(mul(fresh(fresh(c.x)), mean.clone())))[c.x]) == once);
}

TEST_CASE("an update of statistics that backward still needs is seen") {
  const Case c({2, 3, 5, 4}, {4}, DType::f64);
  Tensor mean = c.mean.clone(), variance = c.variance.clone();
  Tape tape;
  tape.watch(c.x);
  const Tensor y = batch_norm2d_frozen(c.x, c.weight, c.bias, mean, variance);
  const Tensor z = batch_norm2d(y, c.weight, c.bias, mean, variance);
  CHECK_THROWS_WITH_AS(tape.backward(sum(z)),
                       "backward: batch_norm2d_frozen kept a tensor of shape [4] that was written in place since; "
                       "clone() it before writing",
                       TapeError);
}

TEST_CASE("a gradient for running statistics is refused, and so are statistics that share bytes") {
  const Case c({2, 3, 5, 4}, {4}, DType::f64);
  Tensor mean = c.mean.clone(), variance = c.variance.clone();
  {
    Tape tape;
    tape.watch(mean);
    CHECK_THROWS_AS(batch_norm2d(c.x, {}, {}, mean, variance), TapeError);  // before it blends anything in
    CHECK((doubles(mean) == doubles(c.mean) && doubles(variance) == doubles(c.variance)));
  }
  CHECK_THROWS_WITH_AS(batch_norm2d(c.x, {}, {}, mean, mean),
                       "batch_norm2d: inputs 3 and 4 overlap in memory, and 3 is updated", ArgumentError);
  CHECK_THROWS_AS(batch_norm2d(c.x, variance, {}, mean, variance), ArgumentError);
}

TEST_CASE("replayed Steps blend statistics as calls without a Step do") {
  const Mode mode(Replay::on);
  const Case c({2, 3, 5, 4}, {4}, DType::f32);
  Tensor mean = c.mean.clone(), variance = c.variance.clone(), plain_mean = mean.clone(),
         plain_variance = variance.clone();
  const auto function = [&c](const Tensor& x, const Tensor& m, const Tensor& v) {
    Tape tape;
    tape.watch(x);
    const Tensor y = batch_norm2d(x, c.weight, c.bias, m, v);
    return std::array{y, tape.backward(y, {.upstream = c.upstream})[x]};
  };
  Step step([&](const Tensor& x) { return function(x, mean, variance); });
  for (uint64_t call = 0; call < 5; ++call) {
    const Tensor x = normal_sample(c.x.shape(), DType::f32, 100 + call);
    const auto replayed = step(x), plain = function(x, plain_mean, plain_variance);
    for (size_t k = 0; k < plain.size(); ++k) CHECK(doubles(replayed[k]) == doubles(plain[k]));
    CHECK(doubles(mean) == doubles(plain_mean));
    CHECK(doubles(variance) == doubles(plain_variance));
  }
}

// ---- errors ----

TEST_CASE("what cannot be normalised is refused with the reason") {
  const Tensor s = Tensor::ones({4}), x = Tensor::ones({2, 3, 5, 4});
  CHECK_THROWS_WITH_AS(
      batch_norm2d(Tensor::ones({1, 1, 1, 4}), {}, {}, s, s.clone()),
      "batch_norm2d: input [1, 1, 1, 4] has 1 elements per channel, and a variance takes at least two; "
      "use a larger batch, or batch_norm2d_frozen",
      ShapeError);
  CHECK_THROWS_AS(batch_norm2d(Tensor::ones({0, 3, 3, 4}), {}, {}, s, s.clone()), ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm2d(Tensor::ones({8, 4}), {}, {}, s, s.clone()),
                       "batch_norm2d: input [8, 4]; expected [batch, height, width, channels]", ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm2d(x, Tensor::ones({3}), {}, s, s.clone()),
                       "batch_norm2d: weight [3] for an input [2, 3, 5, 4]; it must be [4]", ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm2d_frozen(x, {}, {}, Tensor::ones({4}, DType::f64), s),
                       "batch_norm2d_frozen: mean is f64, the input f32; cast one of them", DTypeError);
  CHECK_THROWS_WITH_AS(batch_norm2d(x, {}, {}, s, s.clone(), {.momentum = 1.5}),
                       "batch_norm2d: momentum 1.5 must be in [0, 1]", ArgumentError);
  CHECK_THROWS_AS(batch_norm2d(x, {}, {}, s, s.clone(), {.epsilon = std::nan("")}), ArgumentError);
  CHECK_THROWS_AS(batch_norm2d(x, {}, {}, {}, s), ArgumentError);
  CHECK(doubles(s) == Doubles(4, 1));
  CHECK_THROWS_WITH_AS(layer_norm(Tensor::ones({})),
                       "layer_norm: over the last 1 axes of []; there must be at least one, and at most 0", ShapeError);
  CHECK_THROWS_AS(layer_norm(x, {}, {}, {.axes = 0}), ShapeError);
  CHECK_THROWS_AS(layer_norm(x, {}, {}, {.axes = INT64_MIN}), ShapeError);
  CHECK_THROWS_WITH_AS(layer_norm(Tensor::ones({3, 0})),
                       "layer_norm: the last 1 axes of [3, 0] have no element to take a mean of", ShapeError);
  CHECK(layer_norm(Tensor::ones({0, 3})).shape() == Shape{0, 3});
  CHECK_THROWS_WITH_AS(layer_norm(x, {}, Tensor::ones({5})),
                       "layer_norm: bias [5] for an input [2, 3, 5, 4]; it must be [4]", ShapeError);
  CHECK_THROWS_AS(layer_norm(x, {}, {}, {.epsilon = -1}), ArgumentError);
}
