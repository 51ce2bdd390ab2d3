// Steps: whatever runs the function - a plain call, a recorded one or a replay - the results have the same bits.
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/step.h>
#include <xent/core/tape.h>

#include "replay_mode.h"
#include "small_ops.h"

using namespace xent;
using small::add, small::descend, small::exp, small::flat, small::mul, small::scale, small::square, small::sum;
using small::Doubles, small::f64, small::parameter, small::values;

namespace {

// A tiny regression trained for some calls: all losses and the weights after them.
Doubles train(Replay how, int calls) {
  const Mode mode(how);
  Tensor w = parameter({0.1, -0.2, 0.3});
  Step step([&](const Tensor& x, const Tensor& y) {
    Tape tape;
    const Tensor hidden = exp(scale(mul(x, w), 0.5));
    const Tensor loss = sum(square(add(mul(hidden, flat(x)), scale(y, -1))));
    descend(w, tape.backward(loss)[w], 0.01);
    return loss;
  });
  Doubles all;
  for (int i = 0; i < calls; ++i) {
    const Tensor loss = step(f64({1.0 + i, -0.5, 0.1 * i}), f64({1, 2, 3}));
    all.push_back(loss.item());
  }
  for (const double value : values(w)) all.push_back(value);
  return all;
}

}  // namespace

// ---- the same bits ----

TEST_CASE("training has the same bits with replay on, off and verified") {
  const Doubles eager = train(Replay::off, 35);
  CHECK(train(Replay::on, 35) == eager);
  CHECK(train(Replay::verify, 35) == eager);
  CHECK(eager[34] < eager[0]);
}

TEST_CASE("the function runs in the first two calls, later ones are replayed") {
  const Mode mode(Replay::on);
  int runs = 0;
  Step step([&](const Tensor& x) {
    ++runs;
    return square(x);
  });
  for (int i = 1; i <= 6; ++i) {
    CHECK(values(step(f64({i + 0.0, 10}))) == Doubles{1.0 * i * i, 100});
    CHECK(runs == (i < 2 ? i : 2));
  }
}

TEST_CASE("with replay off the function runs every time; switching back goes on replaying") {
  const Mode mode(Replay::off);
  int runs = 0;
  Step step([&](const Tensor& x) {
    ++runs;
    return scale(square(x), 2);
  });
  const auto call = [&](double x) { return values(step(f64({x}))) == Doubles{2 * x * x}; };
  for (const double x : {1, 2, 3}) CHECK(call(x));
  CHECK(runs == 3);
  set_replay(Replay::on);
  for (const double x : {4, 5, 6, 7}) CHECK(call(x));
  CHECK(runs == 5);
  set_replay(Replay::off);
  CHECK(call(8));
  CHECK(runs == 6);
  set_replay(Replay::on);
  CHECK(call(9));
  CHECK(runs == 6);
}

TEST_CASE("launches says how many a plan has noted") {
  const Mode mode(Replay::on);
  const Step step([](const Tensor& x) { return square(square(x)); });
  const Tensor x = f64({1});
  StepRunner runner([](std::span<const Tensor> in) { return Tensors{square(square(in[0]))}; });
  const std::span<const Tensor> inputs(&x, 1);
  runner(inputs);
  CHECK(runner.launches(inputs) == 0);
  runner(inputs);
  CHECK(runner.launches(inputs) == 2);
  CHECK(runner.plans() == 1);
  CHECK(step.runner().plans() == 0);
}

TEST_CASE("a Step without inputs works on what it captured") {
  const Mode mode(Replay::on);
  const Tensor count = f64({0});
  Step step([&] {
    descend(count, Tensor::ones({1}, DType::f64), -1);
    return square(count);
  });
  for (int i = 1; i <= 5; ++i) CHECK(values(step()) == Doubles{1.0 * i * i});
}

TEST_CASE("constants made inside are made anew by a replay") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) {
    Tensor total = Tensor::full({2}, 5, DType::f64);
    descend(total, x, -1);
    total.copy_from(add(total, total));
    return total;
  });
  for (int i = 0; i < 4; ++i) CHECK(values(step(f64({1.0 * i, 1}))) == Doubles{10 + 2.0 * i, 12});
}

TEST_CASE("gradients made before the Step accumulate over its calls") {
  const Mode mode(Replay::on);
  Tensor w = parameter({2});
  Gradients total = Gradients::zeros({&w, 1});
  Step step([&](const Tensor& x) {
    Tape tape;
    tape.backward(mul(square(w), x), total);
  });
  for (int i = 1; i <= 5; ++i) step(f64({1.0 * i}));
  CHECK(values(total[w]) == Doubles{4 * 15});
  total.fill(0);
  step(f64({1}));
  CHECK(values(total[w]) == Doubles{4});
}

// ---- results ----

TEST_CASE("a result is valid until the next call; a clone stays") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  std::optional<Tensor> before, clone;
  for (int i = 1; i <= 5; ++i) {
    const Tensor y = step(f64({1.0 * i}));
    CHECK(values(y) == Doubles{1.0 * i * i});
    if (before) {
      CHECK_THROWS_WITH_AS(before->item(), doctest::Contains(".clone() a result to keep it"), ReplayError);
      CHECK(clone->item() == (i - 1) * (i - 1));
    }
    before = y;
    clone = y.clone();
  }
}

TEST_CASE("a Step may return nothing, a tensor, an array, a pair or a tuple") {
  const Mode mode(Replay::on);
  const Tensor seen = f64({0});
  Step nothing_step([&](const Tensor& x) { Tensor(seen).copy_from(x); });
  Step array_step([](const Tensor& x) { return std::array{square(x), scale(x, 2), scale(x, 3)}; });
  Step pair_step([](const Tensor& x) { return std::pair(square(x), scale(x, 2)); });
  Step tuple_step([](const Tensor& x) { return std::tuple(square(x), scale(x, 2)); });
  for (int i = 1; i <= 4; ++i) {
    const Tensor x = f64({1.0 * i});
    nothing_step(x);
    CHECK(seen.item() == i);
    CHECK(array_step(x)[2].item() == 3 * i);
    CHECK(pair_step(x).first.item() == i * i);
    CHECK(std::get<1>(tuple_step(x)).item() == 2 * i);
  }
}

TEST_CASE("function pointers, std::functions and mutable lambdas make Steps too") {
  const Mode mode(Replay::on);
  Step pointer_step(&small::square);
  Step function_step{std::function<Tensor(const Tensor&)>(small::square)};
  Step mutable_step([runs = 0](const Tensor& x) mutable {
    ++runs;
    return square(x);
  });
  for (int i = 1; i <= 4; ++i) {
    const Tensor x = f64({1.0 * i});
    CHECK(pointer_step(x).item() == i * i);
    CHECK(function_step(x).item() == i * i);
    CHECK(mutable_step(x).item() == i * i);
  }
}

TEST_CASE("a result outlives its Step") {
  const Mode mode(Replay::on);
  for (const int calls : {1, 2, 5}) {
    Tensor y;
    {
      Step step([](const Tensor& x) { return square(x); });
      for (int i = 1; i <= calls; ++i) y = step(f64({1.0 * i}));
    }
    const Tensor other = f64({99});  // would take the bytes, if they were free
    CHECK(values(y) == Doubles{1.0 * calls * calls});
  }
}

TEST_CASE("a tensor that was captured may be returned: it stays itself") {
  const Mode mode(Replay::on);
  Tensor w = parameter({1});
  Step step([&](const Tensor& x) {
    descend(w, x, -1);
    return w;
  });
  for (int i = 1; i <= 4; ++i) {
    const Tensor result = step(f64({1}));
    CHECK(result.item() == 1 + i);
    CHECK(result.id() == w.id());
    CHECK(result.requires_grad());
  }
}

TEST_CASE("every call's result has an id of its own, so that gradients of different calls are not mixed up") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  Gradients gradients;
  for (int i = 1; i <= 5; ++i) {
    const Tensor y = step(f64({1.0 * i}));
    CHECK_FALSE(gradients.contains(y));
    Tape tape;
    tape.watch(y);
    tape.backward(square(y), gradients);
    CHECK(values(gradients[y]) == Doubles{2.0 * i * i});
  }
}

// ---- inputs ----

TEST_CASE("a result may be the input of the next call") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return add(x, x); });
  Tensor y = f64({1});
  for (int i = 1; i <= 8; ++i) {
    y = step(y);
    CHECK(y.item() == (1 << i));
  }
}

TEST_CASE("results may change places as inputs, also if they are the inputs handed back") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& a, const Tensor& b) { return std::pair(a, flat(b)); });
  std::pair<Tensor, Tensor> both{f64({1}), f64({2})};
  for (int i = 1; i <= 6; ++i) {
    both = step(both.second, both.first);
    CHECK(both.first.item() == (i % 2 ? 2 : 1));
    CHECK(both.second.item() == (i % 2 ? 1 : 2));
  }
}

TEST_CASE("the same tensor may be several inputs") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& a, const Tensor& b) { return mul(a, b); });
  for (int i = 1; i <= 4; ++i) {
    const Tensor x = f64({1.0 * i});
    CHECK(step(x, x).item() == i * i);
  }
}

TEST_CASE("what the function writes into an input does not reach the caller") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) {
    Tensor(x).fill(0);
    return x;
  });
  for (int64_t extent = 1; extent <= 10; ++extent) {  // ten plans would be more than there are
    const Tensor x = Tensor::ones({extent});
    for (int i = 0; i < 4; ++i) CHECK(step(x).to_vector<float>()[0] == 0);
    CHECK(x.to_vector<float>()[0] == 1);
  }
}

TEST_CASE("a result that is an input does not change with the caller's tensor") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return x; });
  for (int64_t extent = 1; extent <= 10; ++extent) {
    Tensor x = Tensor::ones({extent});
    for (int i = 0; i < 4; ++i) {
      const Tensor y = step(x);
      x.fill(i + 2);
      CHECK(y.to_vector<float>()[0] == i + 1);
    }
  }
}

// ---- plans ----

TEST_CASE("every combination of shapes and dtypes has a plan of its own") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  for (int round = 1; round <= 4; ++round) {
    CHECK(values(step(f64({1.0 * round, 2}))) == Doubles{1.0 * round * round, 4});
    CHECK(values(step(f64({3, 4, 5.0 * round}))) == Doubles{9, 16, 25.0 * round * round});
    CHECK(step(Tensor::full({2}, round)).to_vector<float>()[1] == static_cast<float>(round * round));
  }
  CHECK(step.runner().plans() == 3);
}

TEST_CASE("a result is valid while other shapes are called") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  const Tensor y = step(f64({3}));
  for (int i = 0; i < 4; ++i) step(f64({1, 2}));
  CHECK(y.item() == 9);
}

TEST_CASE("beyond eight plans a Step runs the function every time, and is still right") {
  const Mode mode(Replay::on);
  int runs = 0;
  Tensor w = parameter({3});
  Step step([&](const Tensor& x) {
    ++runs;
    Tape tape;
    return tape.backward(mul(w, sum(square(x))))[w];
  });
  const auto call = [&](int64_t extent) {
    return step(Tensor::full({extent}, 2, DType::f64)).item() == 4.0 * static_cast<double>(extent);
  };
  for (int i = 0; i < 4; ++i) {
    for (int64_t extent = 1; extent <= 8; ++extent) CHECK(call(extent));
  }
  CHECK(runs == 16);
  for (int i = 0; i < 4; ++i) CHECK(call(9));
  CHECK(runs == 20);
  CHECK(call(8));
  CHECK(runs == 20);
  CHECK(step.runner().plans() == 8);
}

// ---- versions, and moving ----

TEST_CASE("a replay bumps the versions that the function's writes bumped") {
  const Mode mode(Replay::on);
  Tensor w = f64({1}), copied = f64({0}), filled = f64({0});
  Step step([&](const Tensor& x) {
    descend(w, x, 1);
    copied.copy_from(x);
    filled.fill(1);
  });
  for (int i = 0; i < 5; ++i) {
    const uint64_t before[] = {w.storage()->version(), copied.storage()->version(), filled.storage()->version()};
    step(f64({1}));
    CHECK(w.storage()->version() == before[0] + 1);
    CHECK(copied.storage()->version() == before[1] + 1);
    CHECK(filled.storage()->version() == before[2] + 1);
  }
}

TEST_CASE("a Step can be moved with its plans; what it was moved from cannot be called") {
  const Mode mode(Replay::on);
  int runs = 0;
  Step first([&](const Tensor& x) {
    ++runs;
    return square(x);
  });
  first(f64({1}));
  first(f64({2}));
  Step second = std::move(first);
  CHECK(second(f64({3})).item() == 9);
  CHECK(runs == 2);
  CHECK_THROWS_AS(first(f64({4})), ArgumentError);  // NOLINT(bugprone-use-after-move)
  CHECK(first.runner().plans() == 0);
}

TEST_CASE("two Steps may share what they capture, one to train and one to evaluate") {
  const Mode mode(Replay::on);
  Tensor w = f64({1});
  Step train_step([&](const Tensor& x) { descend(w, x, -1); });
  Step evaluate([&](const Tensor& x) { return mul(w, x); });
  for (int i = 1; i <= 5; ++i) {
    train_step(f64({1}));
    CHECK(evaluate(f64({10})).item() == 10 * (1 + i));
  }
}
