// Optimizers against their formulas written out in f64, step by step. ctest runs it once per instruction set too.
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "machine_has_it.h"

using namespace xent;

namespace {

// Minimises sum (x - target)^2 for some steps; returns the parameter after each.
template <class O>
std::vector<double> run(O& optimizer, const Tensor& x, const Tensor& target, int steps) {
  std::vector<double> path;
  for (int step = 0; step < steps; ++step) {
    Tape tape;
    const Tensor difference = x - target;
    optimizer.step(tape.backward(sum(difference * difference)));
    path.push_back(x.item());
  }
  return path;
}

Parameter one(double value) { return {"x", parameter(Tensor::from<double>({value}, {1}))}; }
const Tensor target = Tensor::from<double>({3}, {1});

double gradient(double x) { return 2 * (x - 3); }

std::vector<float> numbers(int64_t count, uint64_t seed) {
  HostRandom random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

}  // namespace

TEST_CASE("Sgd: plain, with momentum, with Nesterov, with weight decay") {
  for (const double momentum : {0.0, 0.9})
    for (const bool nesterov : {false, true})
      for (const double decay : {0.0, 0.1}) {
        if (nesterov && momentum == 0) continue;
        const Parameter x = one(1);
        Sgd optimizer({x}, {.learning_rate = 0.125, .momentum = momentum, .nesterov = nesterov, .weight_decay = decay});
        const std::vector<double> path = run(optimizer, x.value, target, 5);
        double value = 1, velocity = 0;
        for (const double got : path) {
          const double d = gradient(value) + decay * value;
          velocity = momentum * velocity + d;
          value -= 0.125 * (nesterov ? d + momentum * velocity : velocity);
          CHECK(got == doctest::Approx(value).epsilon(1e-14));
        }
      }
}

TEST_CASE("Adam and AdamW") {
  for (const bool decoupled : {false, true}) {
    const Parameter x = one(1);
    std::unique_ptr<Adam> optimizer;
    if (decoupled)
      optimizer = std::make_unique<AdamW>(std::vector{x}, AdamW::Options{.learning_rate = 0.125, .weight_decay = 0.1});
    else optimizer = std::make_unique<Adam>(std::vector{x}, Adam::Options{.learning_rate = 0.125, .weight_decay = 0.1});
    const std::vector<double> path = run(*optimizer, x.value, target, 5);
    double value = 1, m = 0, v = 0;
    for (int t = 1; t <= 5; ++t) {
      double g = gradient(value);
      if (decoupled) value *= 1 - 0.125 * 0.1;
      else g += 0.1 * value;
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      value -= 0.125 * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
      CHECK(path[static_cast<size_t>(t - 1)] == doctest::Approx(value).epsilon(1e-12));
    }
    CHECK(optimizer->steps() == 5);
  }
}

TEST_CASE("groups have their own options and learning rates") {
  const Parameter a = one(1), b = one(1), frozen = one(1);
  Sgd optimizer({a}, {.learning_rate = 0.25});
  optimizer.add_group({b}, {.learning_rate = 0.5});
  optimizer.add_group({frozen}, {.learning_rate = 0});
  const auto step = [&] {
    Tape tape;
    optimizer.step(tape.backward(sum(a.value + b.value + frozen.value)));
  };
  step();
  CHECK(a.value.item() == 0.75);
  CHECK(b.value.item() == 0.5);
  CHECK(frozen.value.item() == 1);
  optimizer.set_learning_rate(1, 0.125);
  CHECK(optimizer.learning_rate(0) == 0.25);
  step();
  CHECK(b.value.item() == 0.375);
  optimizer.set_learning_rate(0);
  step();
  CHECK(a.value.item() == 0.5);
  CHECK(optimizer.groups() == 3);
}

TEST_CASE("the learning rate set between two calls holds for a replayed step, and so does Adam's step count") {
  const Parameter eager = one(1), replayed = one(1);
  Adam a({eager}, {.learning_rate = 0.125}), b({replayed}, {.learning_rate = 0.125});
  Step step([&](const Tensor& goal) {
    Tape tape;
    const Tensor difference = replayed.value - goal;
    b.step(tape.backward(sum(difference * difference)));
  });
  for (int i = 0; i < 8; ++i) {
    a.set_learning_rate(0.125 / (i + 1));
    b.set_learning_rate(0.125 / (i + 1));
    run(a, eager.value, target, 1);
    step(target);
    CHECK(eager.value.item() == replayed.value.item());
  }
  CHECK(b.steps() == 8);
}

TEST_CASE("a parameter without a gradient stays, and a step in which none has one is an error") {
  const Parameter used = one(1), unused = one(1);
  Adam optimizer({used, unused}, {});
  {
    Tape tape;
    optimizer.step(tape.backward(sum(used.value)));
  }
  CHECK(used.value.item() != 1);
  CHECK(unused.value.item() == 1);
  const Parameter other = one(1);
  Tape tape;
  CHECK_THROWS_AS(optimizer.step(tape.backward(sum(other.value))), TapeError);
}

TEST_CASE("a batch whose rows are all ignored leaves the parameters bit for bit") {
  Generator random(1);
  Linear model(4, 3, random);
  Sgd optimizer(model.parameters(), {.learning_rate = 0.5});
  const std::vector<float> before = model.weight.to_vector<float>();
  Tape tape;
  const Tensor loss =
      softmax_cross_entropy(model(Tensor::ones({2, 4})), Tensor::full({2}, -1, DType::i64), {.target = {.ignore = -1}});
  optimizer.step(tape.backward(loss));
  CHECK(model.weight.to_vector<float>() == before);
}

TEST_CASE("bad options are errors that name the value") {
  const Parameter x = one(1);
  CHECK_THROWS_AS(Sgd({x}, {.learning_rate = -1}), ArgumentError);
  CHECK_THROWS_AS(Sgd({x}, {.learning_rate = std::numeric_limits<double>::quiet_NaN()}), ArgumentError);
  CHECK_THROWS_AS(Sgd({x}, {.momentum = -0.5}), ArgumentError);
  CHECK_THROWS_AS(Sgd({x}, {.nesterov = true}), ArgumentError);
  CHECK_THROWS_AS(Adam({x}, {.beta1 = 1}), ArgumentError);
  CHECK_THROWS_AS(Adam({x}, {.epsilon = -1}), ArgumentError);
  CHECK_THROWS_AS(Adam({}), ArgumentError);
  CHECK_THROWS_AS(Adam({x, x}), ArgumentError);
  CHECK_THROWS_AS(Adam({{"plain", Tensor::ones({1})}}), ArgumentError);
  Sgd optimizer({x});
  CHECK_THROWS_AS(optimizer.add_group({x}, {}), ArgumentError);
  CHECK_THROWS_AS(optimizer.set_learning_rate(std::numeric_limits<double>::infinity()), ArgumentError);
}

TEST_CASE("a tensor cannot stand for two that a step updates") {
  const Tensor x = Tensor::ones({3}), m = Tensor::zeros({3}), rate = Tensor::scalar(0.1);
  CHECK_THROWS_WITH_AS(sgd_step(x, m, x, rate, {.momentum = 0.9}),
                       "sgd_step: inputs 0 and 2 overlap in memory, and 0 is updated", ArgumentError);
  CHECK_THROWS_WITH_AS(adam_step(x, x, m, m, rate, Tensor::scalar(1, DType::i64)),
                       "adam_step: inputs 2 and 3 overlap in memory, and 2 is updated", ArgumentError);
  sgd_step(x, x, Tensor(), rate);  // the gradient of a half x^2
  CHECK(x.to_vector<float>() == std::vector<float>(3, 1 - 0.1f));
}

TEST_CASE("an optimizer and its learning rate are not made or set inside a Step") {
  const Parameter x = one(1);
  Sgd optimizer({x});
  Step makes([&](const Tensor&) { Adam inner({x}); });
  CHECK_THROWS_AS(makes(target), ReplayError);
  Step sets([&](const Tensor&) { optimizer.set_learning_rate(0.5); });
  CHECK_THROWS_AS(sets(target), ReplayError);
}

TEST_CASE("an update whose tensors overlap is refused: its result would depend on the order of the elements") {
  const Tensor base = Tensor::ones({5}), rate = Tensor::scalar(0.5);
  CHECK_THROWS_WITH_AS(sgd_step(base.slice(1, 5), base.slice(0, 4), {}, rate), doctest::Contains("overlap in memory"),
                       ArgumentError);
  sgd_step(base.slice(0, 2), base.slice(2, 4), {}, rate);
  CHECK(base.to_vector<float>() == std::vector<float>{0.5f, 0.5f, 1, 1, 1});
}

// ---- many elements of f32: whole vectors and what is left over ----

namespace {

Parameter many(int64_t count, uint64_t seed) { return {"x", parameter(Tensor::from(numbers(count, seed), {count}))}; }

}  // namespace

TEST_CASE("every element of f32 is updated by the formula, whatever its place in a vector") {
  if (!machine_has_it()) return;
  for (const int64_t count : {1, 7, 8, 33, 16384 + 5}) {
    const std::vector<float> start = numbers(count, 1);
    std::vector<float> gradient = numbers(count, 2);
    for (float& slope : gradient) slope += slope < 0 ? -0.5f : 0.5f;  // Adam divides by its size
    const Tensor g = Tensor::from(gradient, {count});
    const auto steps_of = [&](auto&& optimizer, const Tensor& x) {
      for (int step = 0; step < 2; ++step) {
        Tape tape;
        optimizer.step(tape.backward(sum(x * g)));
      }
      return x.to_vector<float>();
    };
    const auto x = [&] { return many(count, 1); };
    const Parameter plain = x(), momentum = x(), nesterov = x(), adam = x(), adamw = x();
    const std::vector<std::vector<float>> got = {
        steps_of(Sgd({plain}, {.learning_rate = 0.1, .weight_decay = 0.01}), plain.value),
        steps_of(Sgd({momentum}, {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.01}), momentum.value),
        steps_of(Sgd({nesterov}, {.learning_rate = 0.1, .momentum = 0.9, .nesterov = true}), nesterov.value),
        steps_of(Adam({adam}, Adam::Options{.learning_rate = 0.1, .weight_decay = 0.01}), adam.value),
        steps_of(AdamW({adamw}, AdamW::Options{.learning_rate = 0.1, .weight_decay = 0.01}), adamw.value)};
    for (size_t i = 0; i < start.size(); ++i) {
      const double from = static_cast<double>(start[i]), slope = static_cast<double>(gradient[i]);
      std::array<double, 5> to{from, from, from, from, from};
      double velocity = 0, nesterov_velocity = 0;
      std::array<double, 2> m{}, v{};
      for (int t = 1; t <= 2; ++t) {
        to[0] -= 0.1 * (slope + 0.01 * to[0]);
        velocity = 0.9 * velocity + slope + 0.01 * to[1];
        to[1] -= 0.1 * velocity;
        nesterov_velocity = 0.9 * nesterov_velocity + slope;
        to[2] -= 0.1 * (slope + 0.9 * nesterov_velocity);
        const std::array<double, 2> d = {slope + 0.01 * to[3], slope};
        to[4] *= 1 - 0.1 * 0.01;
        for (size_t k = 0; k < 2; ++k) {
          m[k] = 0.9 * m[k] + 0.1 * d[k];
          v[k] = 0.999 * v[k] + 0.001 * d[k] * d[k];
          to[3 + k] -= 0.1 * (m[k] / (1 - std::pow(0.9, t))) / (std::sqrt(v[k] / (1 - std::pow(0.999, t))) + 1e-8);
        }
      }
      for (size_t k = 0; k < to.size(); ++k) {
        CAPTURE(k);
        REQUIRE(std::abs(static_cast<double>(got[k][i]) - to[k]) < 2e-6);
      }
    }
  }
}

TEST_CASE_TEMPLATE("means of gradients that stay 0 end at 0, not below the smallest normal number", T, float, double) {
  const DType dtype = std::is_same_v<T, float> ? DType::f32 : DType::f64;
  const T least = std::numeric_limits<T>::min(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> before = {least, -least, 4 * least, -4 * least, 0, nan};
  const std::vector<T> halved = {0, 0, 2 * least, -2 * least, 0, nan};
  const Tensor rate = Tensor::scalar(0.5), steps = Tensor::full({}, 1, DType::i64);
  for (const int64_t repeats : {1, 7}) {  // in f32 without and with a whole vector
    const int64_t count = 6 * repeats;
    std::vector<T> means, expected;
    for (int64_t i = 0; i < repeats; ++i) {
      means.insert(means.end(), before.begin(), before.end());
      expected.insert(expected.end(), halved.begin(), halved.end());
    }
    const auto check = [&](const Tensor& state) {
      const std::vector<T> got = state.to_vector<T>();
      for (size_t i = 0; i < got.size(); ++i)
        CHECK((got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]))));
    };
    const Tensor none = Tensor::zeros({count}, dtype);
    for (const bool nesterov : {false, true}) {
      const Tensor velocity = Tensor::from(means, {count});
      sgd_step(Tensor::zeros({count}, dtype), none, velocity, rate, {.momentum = 0.5, .nesterov = nesterov});
      check(velocity);
    }
    const Tensor m = Tensor::from(means, {count});
    adam_step(Tensor::zeros({count}, dtype), none, m, Tensor::ones({count}, dtype), rate, steps, {.beta1 = 0.5});
    check(m);
  }
}
