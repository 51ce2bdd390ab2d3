// Schedule: rates against plain formulas, for several groups, at replay, and what is refused.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "replay_mode.h"

using namespace xent;

namespace {

using Floats = std::vector<float>;

Parameter weight(const char* name, double value = 1) { return {name, parameter(Tensor::full({3}, value))}; }

// The definition, in long double.
double factor(const ScheduleOptions& o, int64_t n) {
  if (n < o.warmup) return static_cast<double>(static_cast<long double>(n + 1) / static_cast<long double>(o.warmup));
  const int64_t k = n - o.warmup;
  const long double last = o.last,
                    t = std::min<long double>(static_cast<long double>(k) / static_cast<long double>(o.steps), 1);
  long double result = 1;
  if (o.decay == Decay::step)
    for (int64_t i = o.steps; i <= k; i += o.steps) result *= o.factor;
  if (o.decay == Decay::linear) result = t < 1 ? 1 + (last - 1) * t : last;
  if (o.decay == Decay::cosine) result = last + (1 - last) * (1 + std::cos(std::numbers::pi_v<long double> * t)) / 2;
  return static_cast<double>(result);
}

float rate_at(const ScheduleOptions& o, int64_t count, double base = 1) {
  const Tensor rate = Tensor::scalar(-1);
  schedule_rate(rate, Tensor::scalar(base), Tensor::from<int64_t>({count}, {}), o);
  return rate.item<float>();
}

}  // namespace

TEST_CASE("every decay follows its formula, with and without a warm-up") {
  for (const Decay decay : {Decay::constant, Decay::step, Decay::linear, Decay::cosine})
    for (const int64_t warmup : {0, 1, 4})
      for (const int64_t steps : {1, 3, 10})
        for (const double last : {0.0, 0.1, 2.5}) {
          const ScheduleOptions o{.decay = decay, .warmup = warmup, .steps = steps, .factor = 0.5, .last = last};
          Sgd optimizer({weight("w")}, {.learning_rate = 0.3});
          Schedule schedule(optimizer, o);
          double worst = 0;
          for (int64_t n = 0; n < 30; ++n) {
            CHECK(schedule.count() == n);
            worst = std::max(worst, std::abs(optimizer.learning_rate() - static_cast<double>(0.3f) * factor(o, n)));
            schedule.step();
          }
          CHECK(worst < 1e-7);
        }
}

TEST_CASE("the values that a user works out by hand") {
  const auto rates = [](const ScheduleOptions& o, int64_t count) {
    std::vector<double> list;
    for (int64_t n = 0; n < count; ++n) list.push_back(rate_at(o, n));
    return list;
  };
  using Doubles = std::vector<double>;
  CHECK(rates({.warmup = 4}, 6) == Doubles{0.25, 0.5, 0.75, 1, 1, 1});
  CHECK(rates({.decay = Decay::step, .steps = 2, .factor = 0.5}, 7) == Doubles{1, 1, 0.5, 0.5, 0.25, 0.25, 0.125});
  CHECK(rates({.decay = Decay::linear, .warmup = 2, .steps = 4}, 8) == Doubles{0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0});
  CHECK(rates({.decay = Decay::cosine, .steps = 2, .last = 0.5}, 4) == Doubles{1, 0.75, 0.5, 0.5});
}

TEST_CASE("linear and cosine begin at the base and end at `last` of it to the bit, however small or large it is") {
  for (const Decay decay : {Decay::linear, Decay::cosine})
    for (const double last : {0.0, 1e-30, 1e-3, 0.1, 1.0, 1e30}) {
      const ScheduleOptions o{.decay = decay, .steps = 7, .last = last};
      CHECK(rate_at(o, 0) == 1);
      for (const int64_t n : {int64_t{7}, int64_t{8}, int64_t{1000}, INT64_MAX})
        CHECK(rate_at(o, n) == static_cast<float>(last));
    }
}

TEST_CASE("a decay never goes up on the way to a smaller rate") {
  for (const Decay decay : {Decay::step, Decay::linear, Decay::cosine}) {
    const ScheduleOptions o{.decay = decay, .steps = 997, .last = 0.01};
    float before = rate_at(o, 0);
    int rises = 0;
    for (int64_t n = 1; n < 1200; ++n) {
      const float now = rate_at(o, n);
      rises += now > before;
      before = now;
    }
    CHECK(rises == 0);
  }
}

TEST_CASE("counts and options at the ends of their types give a rate") {
  for (const Decay decay : {Decay::constant, Decay::step, Decay::linear, Decay::cosine})
    for (const int64_t warmup : {int64_t{0}, INT64_MAX})
      for (const int64_t steps : {int64_t{1}, INT64_MAX})
        for (const int64_t count : {INT64_MIN, int64_t{-1}, int64_t{0}, INT64_MAX - 1, INT64_MAX}) {
          const float rate = rate_at({.decay = decay, .warmup = warmup, .steps = steps}, count);
          CHECK((rate >= 0 && rate <= 1));
        }
}

TEST_CASE("every group has a base of its own") {
  Adam optimizer({weight("a")}, {.learning_rate = 0.5});
  optimizer.add_group({weight("b")}, {.learning_rate = 0.125});
  Schedule schedule(optimizer, {.decay = Decay::step, .steps = 1, .factor = 0.5});
  schedule.step();
  schedule.step();
  CHECK(optimizer.learning_rate(0) == 0.125);
  CHECK(optimizer.learning_rate(1) == 0.03125);
  CHECK(schedule.state().size() == 3);
}

TEST_CASE("a step after a group was added is refused, and changes nothing") {
  Sgd optimizer({weight("a")}, {.learning_rate = 0.5});
  Schedule schedule(optimizer, {.decay = Decay::step, .steps = 1, .factor = 0.5});
  optimizer.add_group({weight("b")}, {.learning_rate = 0.75});
  CHECK_THROWS_WITH_AS(schedule.step(),
                       "Schedule: made for 1 groups of the optimizer, which has 2 now; make it after add_group",
                       ArgumentError);
  CHECK(schedule.count() == 0);
  CHECK(optimizer.learning_rate(0) == 0.5);
  Schedule both(optimizer, {.decay = Decay::step, .steps = 1, .factor = 0.5});
  both.step();
  CHECK(optimizer.learning_rate(1) == 0.375);
}

TEST_CASE("a rate that is set by hand holds until the next step of the schedule") {
  Sgd optimizer({weight("w")}, {.learning_rate = 1});
  Schedule schedule(optimizer, {.decay = Decay::linear, .steps = 4});
  optimizer.set_learning_rate(9);
  CHECK(optimizer.learning_rate() == 9);
  schedule.step();
  CHECK(optimizer.learning_rate() == 0.75);
}

TEST_CASE("inside a replayed Step the weights are those of eager steps, bit for bit") {
  const auto train = [](Replay replay) {
    const Mode mode(replay);
    const Parameter a = weight("a", 0.7), b = weight("b", -1.3);
    Sgd optimizer({a}, {.learning_rate = 0.1, .momentum = 0.9});
    optimizer.add_group({b}, {.learning_rate = 0.03});
    Schedule schedule(optimizer, {.decay = Decay::cosine, .warmup = 3, .steps = 8, .last = 0.01});
    Step step([&](const Tensor& x) {
      Tape tape;
      const Tensor loss = sum(mul(sub(mul(a.value, b.value), x), sub(mul(a.value, b.value), x)));
      optimizer.step(tape.backward(loss));
      schedule.step();
    });
    std::vector<Floats> seen;
    for (int n = 0; n < 14; ++n) {
      step(Tensor::from({0.5, -2, 1}, {3}));
      seen.push_back(a.value.to_vector<float>());
      seen.push_back(b.value.to_vector<float>());
      seen.push_back({static_cast<float>(optimizer.learning_rate(0)), static_cast<float>(optimizer.learning_rate(1))});
    }
    CHECK(schedule.count() == 14);
    return seen;
  };
  const auto replayed = train(Replay::on), eager = train(Replay::off);
  CHECK(replayed == eager);
  CHECK(replayed[2] != replayed.back());
  CHECK(replayed.back()[0] == static_cast<float>(static_cast<double>(0.1f) * 0.01));
}

TEST_CASE("state() lists count and bases, and what is written into it holds from the next step on") {
  Sgd optimizer({weight("a")}, {.learning_rate = 1}), other({weight("a")}, {.learning_rate = 0.25});
  optimizer.add_group({weight("b")}, {.learning_rate = 2});
  other.add_group({weight("b")}, {.learning_rate = 0.25});
  const ScheduleOptions o{.decay = Decay::linear, .steps = 8};
  Schedule schedule(optimizer, o), resumed(other, o);
  for (int n = 0; n < 3; ++n) schedule.step();
  std::vector<NamedTensor> from = schedule.state(), to = resumed.state();
  REQUIRE(from.size() == 3);
  CHECK((from[0].name == "count" && from[1].name == "0.base" && from[2].name == "1.base"));
  CHECK(from[0].value.item<int64_t>() == 3);
  CHECK(from[2].value.item() == 2);
  for (size_t i = 0; i < from.size(); ++i) to[i].value.copy_from(from[i].value);
  schedule.step();
  resumed.step();
  CHECK(resumed.count() == 4);
  for (const size_t g : {size_t{0}, size_t{1}}) CHECK(other.learning_rate(g) == optimizer.learning_rate(g));
}

TEST_CASE("options out of range are refused, and the rate stays what it was") {
  Sgd optimizer({weight("w")}, {.learning_rate = 0.5});
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  std::vector<ScheduleOptions> bad = {{.warmup = -1}, {.steps = 0}, {.warmup = INT64_MIN}, {.steps = INT64_MIN}};
  for (const double value : {nan, infinity, -infinity, -1e-300}) {
    bad.push_back({.decay = Decay::step, .factor = value});
    bad.push_back({.decay = Decay::cosine, .last = value});
  }
  bad.push_back({.decay = Decay::step, .factor = 0});
  bad.push_back({.decay = static_cast<Decay>(4)});
  bad.push_back({.decay = static_cast<Decay>(-1)});
  for (const ScheduleOptions& o : bad) CHECK_THROWS_AS(Schedule(optimizer, o), ArgumentError);
  CHECK_THROWS_WITH_AS(Schedule(optimizer, {.steps = 0}),
                       "schedule_rate: warmup 0 and steps 0 must be at least 0 and 1", ArgumentError);
  CHECK(optimizer.learning_rate() == 0.5);
}

TEST_CASE("rates, bases and counts of other shapes and types are refused") {
  const Tensor rate = Tensor::scalar(1), base = Tensor::scalar(1), count = Tensor::from<int64_t>({0}, {});
  CHECK_THROWS_AS(schedule_rate(Tensor::ones({1}), base, count), ShapeError);
  CHECK_THROWS_AS(schedule_rate(rate, Tensor::ones({}, DType::f64), count), Error);
  CHECK_THROWS_AS(schedule_rate(rate, base, rate), Error);
  CHECK_THROWS_AS(schedule_rate(rate, base, {}), ArgumentError);
}

TEST_CASE("a schedule is not made, and its count not read, inside a Step") {
  const Mode mode(Replay::on);
  Sgd optimizer({weight("w")}, {.learning_rate = 0.5});
  Schedule schedule(optimizer);
  Step making([&](const Tensor&) { Schedule inside(optimizer); });
  Step reading([&](const Tensor&) { schedule.count(); });
  CHECK_THROWS_AS(making(Tensor::ones({1})), ReplayError);
  CHECK_THROWS_AS(reading(Tensor::ones({1})), ReplayError);
}
