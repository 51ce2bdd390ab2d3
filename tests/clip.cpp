// Clipping by norm against a plain computation, and as a decision that a replayed Step takes anew.
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/step.h>
#include <xent/nn/clip.h>
#include <xent/nn/module.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

#include "replay_mode.h"

using namespace xent;

namespace {

using Doubles = std::vector<double>;

Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

// Gradients of some tensors, with values of their own.
Gradients gradients_of(const std::vector<Tensor>& values) {
  Gradients gradients;
  for (const Tensor& value : values) gradients.set(Tensor::zeros(value.shape(), value.dtype()), value.clone());
  return gradients;
}

Doubles all_values(const Gradients& gradients) {
  Doubles values;
  for (const auto& [id, gradient] : gradients)
    for (const double value : doubles(gradient)) values.push_back(value);
  return values;
}

double norm_of(const Doubles& values) {
  long double total = 0;
  for (const double value : values) total += static_cast<long double>(value) * value;
  return static_cast<double>(std::sqrt(total));
}

}  // namespace

TEST_CASE("the norm is that of all elements together, in f64, also for many f32") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Gradients gradients = gradients_of({normal_sample({3, 50001}, dtype, 1), normal_sample({}, dtype, 2),
                                              normal_sample({0, 3}, dtype, 3), normal_sample({17, 3}, dtype, 4)});
    const Tensor norm = gradient_norm(gradients);
    CHECK(norm.dtype() == DType::f64);
    CHECK(norm.shape() == Shape{});
    CHECK(std::abs(norm.item() / norm_of(all_values(gradients)) - 1) < 1e-14);
  }
  CHECK(gradient_norm(Gradients()).item() == 0);
  CHECK(gradient_norm(gradients_of({Tensor::full({4}, 1e30)})).item() == doctest::Approx(2e30));  // not squared in f32
}

TEST_CASE("gradients that are too long are shortened together, others keep their bits") {
  const std::vector<Tensor> values = {normal_sample({3, 5001}, DType::f64, 1), normal_sample({7}, DType::f64, 2)};
  const Gradients before = gradients_of(values);
  const double norm = norm_of(all_values(before));
  for (const double max_norm : {1e-3, 1.0, norm * 0.99, norm + 1e-5, norm * 2, 1e300}) {
    Gradients gradients = gradients_of(values);
    CHECK(clip_gradients(gradients, max_norm).item() == doctest::Approx(norm).epsilon(1e-14));
    Doubles expected = all_values(before);
    const double factor = max_norm / (norm + 1e-6);
    if (factor >= 1) {
      CHECK(all_values(gradients) == expected);
      continue;
    }
    const Doubles clipped = all_values(gradients);
    double worst = 0;
    for (size_t i = 0; i < clipped.size(); ++i)
      worst = std::max(worst, std::abs(clipped[i] / (expected[i] * factor) - 1));
    CHECK(worst < 1e-14);
    CHECK(norm_of(clipped) < max_norm);
  }
}

TEST_CASE("gradients of 0 stay 0, and their norm is 0") {
  Gradients gradients = gradients_of({Tensor::zeros({5}), Tensor::zeros({2, 3})});
  CHECK(clip_gradients(gradients, 1e-30).item() == 0);
  CHECK(all_values(gradients) == Doubles(11, 0));
}

TEST_CASE("an infinite norm makes 0 of what is finite, and a norm of NaN makes NaN of everything, as PyTorch has it") {
  const float infinity = std::numeric_limits<float>::infinity();
  Gradients gradients = gradients_of({Tensor::from({1, infinity, -2}, {3})});
  CHECK(clip_gradients(gradients, 1).item() == HUGE_VAL);
  const Doubles clipped = all_values(gradients);
  CHECK((clipped[0] == 0 && std::isnan(clipped[1]) && clipped[2] == 0));

  Gradients unknown = gradients_of({Tensor::from({1, NAN, -2}, {3}), Tensor::ones({2})});
  CHECK(std::isnan(clip_gradients(unknown, 1).item()));
  for (const double value : all_values(unknown)) CHECK(std::isnan(value));
}

TEST_CASE("every replay of a Step decides anew whether to clip") {
  const Mode mode(Replay::on);
  const Tensor w = parameter(normal_sample({40}, DType::f64, 1)), b = parameter(Tensor::zeros({}, DType::f64));
  Step step([&](const Tensor& x) {
    Tape tape;
    const Tensor loss = sum(mul(mul(w, w), x)) + sum(b);
    Gradients gradients = tape.backward(loss);
    const Tensor norm = clip_gradients(gradients, 2.0);
    return std::array{gradients[w], gradients[b], norm, gradient_norm(gradients)};
  });
  const Doubles weights = doubles(w);
  int clipped = 0;
  for (int call = 0; call < 8; ++call) {
    const double size = call % 2 == 0 ? 0.1 : 10.0;  // norms on both sides of 2, in replays too
    const Tensor x = scale(normal_sample({40}, DType::f64, 10 + static_cast<uint64_t>(call)), size);
    const auto results = step(x);
    Doubles expected = doubles(x);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] *= 2 * weights[i];
    expected.push_back(1);  // the gradient of b
    const double norm = norm_of(expected), factor = std::min(1.0, 2.0 / (norm + 1e-6));
    clipped += factor < 1;
    Doubles actual = doubles(results[0]);
    actual.push_back(results[1].item());
    for (size_t i = 0; i < actual.size(); ++i) CHECK(actual[i] == doctest::Approx(expected[i] * factor).epsilon(1e-13));
    CHECK(results[2].item() == doctest::Approx(norm).epsilon(1e-13));
    CHECK(results[3].item() == doctest::Approx(norm * factor).epsilon(1e-13));
  }
  CHECK(clipped == 4);
  CHECK(step.runner().plans() == 1);
}

TEST_CASE("one, two and three threads give the same bits") {
  const int before = threads();
  const std::vector<Tensor> values = {normal_sample({3, 50001}, DType::f32, 1), normal_sample({99999}, DType::f32, 2)};
  const auto run = [&] {
    Gradients gradients = gradients_of(values);
    Doubles all = {clip_gradients(gradients, 3).item()};
    for (const double value : all_values(gradients)) all.push_back(value);
    return all;
  };
  set_threads(1);
  const Doubles one = run();
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(run() == one);
  }
  set_threads(before);
}

TEST_CASE("norms that are none are refused, and nothing has been written") {
  Gradients gradients = gradients_of({Tensor::full({3}, 5)});
  CHECK_THROWS_WITH_AS(clip_gradients(gradients, 0),
                       "clip_gradients: a norm of at most 0; it must be positive and finite", ArgumentError);
  for (const double max_norm : {-1.0, static_cast<double>(NAN), HUGE_VAL})
    CHECK_THROWS_AS(clip_gradients(gradients, max_norm), ArgumentError);
  CHECK(all_values(gradients) == Doubles(3, 5));
  const Tensor x = Tensor::ones({3}), total = Tensor::zeros({}, DType::f64);
  CHECK_THROWS_WITH_AS(accumulate_squares(Tensor::zeros({}), x),
                       "accumulate_squares: the sum of squares is f32 []; it must be a scalar of f64", ShapeError);
  CHECK_THROWS_AS(accumulate_squares(Tensor::zeros({1}, DType::f64), x), ShapeError);
  CHECK_THROWS_WITH_AS(accumulate_squares(total, Tensor::ones({3}, DType::f16)),
                       "accumulate_squares: takes f32 and f64, not f16; cast first", DTypeError);
  CHECK_THROWS_WITH_AS(clip_to_norm(x, total, -1), "clip_to_norm: a norm of at most -1; it must be positive and finite",
                       ArgumentError);
}
