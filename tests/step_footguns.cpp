// What would make a replay untrue is an exception, and after an exception the next call is right.
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/random.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>

#include "replay_mode.h"
#include "small_ops.h"

using namespace xent;
using small::add, small::checked, small::descend, small::exp, small::flat, small::mul, small::scale, small::square,
    small::sum;
using small::Doubles, small::f64, small::parameter, small::values;

namespace {

// Calls a step until it throws a ReplayError; returns its text, or "" if it does not within 30 calls.
template <class S>
std::string replay_error(S& step, const Tensor& x) {
  for (int i = 0; i < 30; ++i) {
    try {
      step(x);
    } catch (const ReplayError& error) {
      return error.what();
    }
  }
  return "";
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

// ---- things that a Step's function must not do ----

TEST_CASE("reading values inside a Step is refused in the first call already, naming who asked and the way out") {
  const Mode mode(Replay::on);
  const std::pair<const char*, std::function<void(Tensor)>> table[] = {
      {"item() inside a Step would freeze the value of this call; return the tensor and read or print it after the "
       "call",
       [](Tensor x) { x.item(); }},
      {"item() inside a Step", [](Tensor) { Tensor::zeros({1}, DType::i64).item(); }},
      {"to_vector inside a Step", [](Tensor x) { x.to_vector<double>(); }},
      {"to_vector inside a Step", [](Tensor x) { x.str(); }},
      {"data() inside a Step", [](Tensor x) { x.data<double>(); }},
      {"data() inside a Step", [](Tensor x) { x.mutable_data<double>(); }},
      {"Tensor::from inside a Step would freeze the value of this call; pass the values as an input of the Step, or "
       "make the tensor before it",
       [](Tensor) { Tensor::from({1}, {1}); }},
      {"to(device) inside a Step", [](Tensor x) { x.to(Device::cuda()); }},
  };
  for (const auto& row : table) {
    const char* const text = row.first;
    CAPTURE(text);
    Step step([&row](const Tensor& x) { row.second(x); });
    for (int i = 0; i < 3; ++i) CHECK_THROWS_WITH_AS(step(f64({1})), doctest::Contains(text), ReplayError);
  }
}

TEST_CASE("making what outlives a call inside a Step is refused, naming who asked") {
  const Mode mode(Replay::on);
  Generator generator(1);
  const std::pair<const char*, std::function<void(const Tensor&)>> table[] = {
      {"a Generator outlives a call of a Step; make it before the Step, not inside",
       [](const Tensor&) { Generator(1); }},
      {"Gradients::zeros outlives a call",
       [](const Tensor& x) {
         Gradients::zeros({&x, 1});
       }},
      {"a moment outlives a call", [](const Tensor&) { Tensor::persistent("a moment", {2}); }},
      {"set_seed inside a Step", [&](const Tensor&) { generator.set_seed(1); }},
  };
  for (const auto& row : table) {
    const char* const text = row.first;
    CAPTURE(text);
    Step step([&row](const Tensor& x) { row.second(x); });
    for (int i = 0; i < 2; ++i) CHECK_THROWS_WITH_AS(step(f64({1})), doctest::Contains(text), ReplayError);
  }
}

TEST_CASE("the same is refused in calls that no plan serves") {
  const Mode mode(Replay::on);
  bool read = false;
  Step step([&](const Tensor& x) {
    if (read) x.to_vector<float>();
    return square(x);
  });
  for (int64_t extent = 1; extent <= 9; ++extent) step(Tensor::ones({extent}));
  read = true;
  CHECK_THROWS_AS(step(Tensor::ones({9})), ReplayError);
  CHECK_THROWS_AS(step(Tensor::ones({10})), ReplayError);
}

TEST_CASE("a Step within a Step is refused") {
  const Mode mode(Replay::on);
  Step inner([](const Tensor& x) { return square(x); });
  Step outer([&](const Tensor& x) { return inner(x); });
  for (int i = 0; i < 3; ++i)
    CHECK_THROWS_WITH_AS(outer(f64({1})), "Step: called inside a Step; call its function directly", ReplayError);
  CHECK(inner(f64({3})).item() == 9);
}

TEST_CASE("a Step under a tape that records is refused: the tape could not see inside") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  for (int i = 0; i < 3; ++i) {
    {
      const Tape tape;
      CHECK_THROWS_WITH_AS(step(f64({1})), doctest::Contains("called while a tape records"), ReplayError);
    }
    CHECK(step(f64({3})).item() == 9);
  }
}

TEST_CASE("a parameter as an input is refused: the gradient would belong to the copy") {
  Step step([](const Tensor& x) { return square(x); });
  Tensor w = parameter({1});
  CHECK_THROWS_WITH_AS(step(w), "Step: input of shape [1] is a parameter; let the function capture it", ReplayError);
  CHECK_NOTHROW(step(w.detach()));
}

TEST_CASE("an empty handle as an input is refused") {
  Step step([](const Tensor&, const Tensor& y) { return square(y); });
  CHECK_THROWS_AS(step(Tensor(), f64({1})), ArgumentError);
  CHECK_THROWS_AS(step(f64({1}), Tensor()), ArgumentError);
  CHECK(step(f64({1}), f64({3})).item() == 9);
}

TEST_CASE("a stale result as an input is refused, and nothing was touched") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x) { return square(x); });
  const Tensor first = step(f64({2}));
  const Tensor second = step(f64({3}));
  CHECK_THROWS_AS(step(first), ReplayError);
  CHECK(second.item() == 9);
}

// ---- handles that leak out of a call ----

TEST_CASE("an intermediate that is captured and used in a later call is refused") {
  const Mode mode(Replay::on);
  Tensor last;
  Step step([&](const Tensor& x) {
    const Tensor y = last ? add(square(x), last) : square(x);
    last = scale(y, 0.5);
    return y;
  });
  CHECK(step(f64({2})).item() == 4);
  CHECK(last.item() == 2);  // until the next call
  CHECK_THROWS_WITH_AS(step(f64({3})), doctest::Contains("was made in an earlier call of a Step"), ReplayError);
}

TEST_CASE("an input that is captured and used in a later call is refused: its slot holds new values") {
  const Mode mode(Replay::on);
  Tensor last;
  Step step([&](const Tensor& x) {
    const Tensor y = last ? add(x, scale(last, -1)) : x;
    last = x;
    return y;
  });
  step(f64({2}));
  CHECK_THROWS_AS(step(f64({3})), ReplayError);
}

TEST_CASE("a leaked intermediate that is only handed out again is refused as well") {
  const Mode mode(Replay::on);
  Tensor last;
  Step step([&](const Tensor& x) {
    const Tensor before = last;
    last = square(x);
    return before ? before : last;
  });
  CHECK(step(f64({2})).item() == 4);
  CHECK_THROWS_AS(step(f64({3})), ReplayError);
}

TEST_CASE("a result of another Step, or of other shapes, is refused as a capture: its bytes will change unseen") {
  const Mode mode(Replay::on);
  Step producer([](const Tensor& x) { return square(x); });
  Tensor captured = producer(f64({3}));
  Step consumer([&](const Tensor& x) { return mul(x, captured); });
  Step returner([&](const Tensor&) { return captured; });
  Step viewer([&](const Tensor&) { return flat(captured); });
  Step writer([&](const Tensor&) { captured.fill(0); });
  for (int i = 0; i < 3; ++i) {
    CHECK_THROWS_WITH_AS(consumer(f64({1})), doctest::Contains("capture a .clone() of it"), ReplayError);
    CHECK_THROWS_AS(returner(f64({1})), ReplayError);
    CHECK_THROWS_AS(viewer(f64({1})), ReplayError);
    CHECK_THROWS_AS(writer(f64({1})), ReplayError);
  }
  captured = captured.clone();
  for (int i = 0; i < 4; ++i) {
    producer(f64({7}));
    CHECK(consumer(f64({2})).item() == 18);
  }

  Tensor last;
  Step step([&](const Tensor& x) {
    last = last ? sum(add(flat(sum(x)), flat(last))) : sum(x);
    return last;
  });
  step(f64({1, 2}));
  CHECK_THROWS_AS(step(f64({1, 2, 3})), ReplayError);  // another plan than the one last belongs to
}

TEST_CASE("gradients that leak out of a Step go stale with it") {
  const Mode mode(Replay::on);
  Tensor w = parameter({2});
  Gradients gradients;
  Step step([&](const Tensor& x) {
    Tape tape;
    gradients = tape.backward(mul(square(w), x));
  });
  step(f64({1}));
  CHECK(values(gradients[w]) == Doubles{4});
  step(f64({2}));
  CHECK(values(gradients[w]) == Doubles{8});
  step(f64({3}));
  CHECK_THROWS_AS(values(gradients[w]), ReplayError);
}

TEST_CASE("accumulating into gradients that were made inside an earlier call is refused") {
  const Mode mode(Replay::on);
  Tensor w = parameter({2});
  Gradients total;
  Step step([&](const Tensor& x) {
    Tape tape;
    tape.backward(mul(square(w), x), total);
  });
  step(f64({1}));
  CHECK_THROWS_AS(step(f64({1})), ReplayError);
}

// ---- exceptions ----

TEST_CASE("a kernel that throws in any call leaves a Step whose next call is right") {
  const Mode mode(Replay::on);
  for (int bad_call = 1; bad_call <= 5; ++bad_call) {
    CAPTURE(bad_call);
    Tensor w = f64({0});
    Step step([&](const Tensor& x) {
      const Tensor y = square(scale(checked(x), 2));
      descend(w, y, -1);
      return y;
    });
    double expected = 0;
    for (int call = 1; call <= 8; ++call) {
      if (call == bad_call) {
        CHECK_THROWS_AS(step(f64({-1})), LabelError);
        CHECK(Tape::recording() == nullptr);
        CHECK_NOTHROW(f64({1}).item());  // the thread is outside again, and so is its memory
        CHECK_FALSE(Tensor::empty({1}).storage()->in_arena());
      } else {
        CHECK(step(f64({1.0 * call})).item() == 4.0 * call * call);
        expected += 4.0 * call * call;
      }
      CHECK(w.item() == expected);
    }
  }
}

TEST_CASE("a backward that throws inside a Step ends the tape with the call") {
  const Mode mode(Replay::on);
  static constexpr Op failing_op = {
      .name = "failing",
      .formula = "y = x",
      .infer = small::like_first,
      .forward = small::scale_op.forward,
      .backward = {[](const Call& c) {
        if (small::at<double>(c.grad_out[0], 0) < 0) throw LabelError("failing: a negative gradient");
        small::scale_op.backward.cpu(c);
      }},
  };
  Tensor w = parameter({2});
  Step step([&](const Tensor& x) {
    Tape tape;
    return tape.backward(mul(xent::apply(failing_op, {w}, small::ScaleAttrs{3})[0], x))[w];
  });
  for (int call = 1; call <= 8; ++call) {
    if (call % 2) {
      CHECK_THROWS_AS(step(f64({-1})), LabelError);
      CHECK(Tape::recording() == nullptr);
    } else {
      CHECK(step(f64({1.0 * call})).item() == 3 * call);
    }
  }
}

TEST_CASE("a replay that throws has bumped the versions of what it may have written") {
  const Mode mode(Replay::on);
  Tensor w = f64({0});
  Step step([&](const Tensor& x) {
    descend(w, x, 1);
    checked(x);
  });
  for (int i = 0; i < 3; ++i) step(f64({1}));
  const uint64_t version = w.storage()->version();
  CHECK_THROWS_AS(step(f64({-1})), LabelError);
  CHECK(w.storage()->version() != version);
}

// ---- host values: frozen, and found by verify ----

TEST_CASE("with verify, a flag that adds a launch is found and the launch is named") {
  const Mode mode(Replay::verify);
  bool flag = false;
  Step step([&](const Tensor& x) { return flag ? exp(square(x)) : square(x); });
  for (int i = 0; i < 2; ++i) step(f64({1}));
  flag = true;
  const std::string text = replay_error(step, f64({1}));
  CAPTURE(text);
  CHECK(contains(text, "Step: launch 1, exp, is new, 1 were recorded"));
  CHECK(contains(text, "pass it as a tensor"));
}

TEST_CASE("with verify, a flag that takes a launch away or changes it is found and both are named") {
  const Mode mode(Replay::verify);
  int flag = 0;
  Tensor w = parameter({2});
  Step step([&](const Tensor& x) {
    Tape tape;
    const Tensor y = flag == 1 ? exp(w) : square(w);
    const Tensor gradient = tape.backward(mul(y, x))[w];
    return flag == 2 ? gradient : scale(gradient, 2);
  });
  for (int i = 0; i < 2; ++i) step(f64({1}));
  flag = 1;
  std::string text = replay_error(step, f64({1}));
  CAPTURE(text);
  CHECK(contains(text, "launch 0 is exp but was square when recorded"));
  flag = 0;
  for (int i = 0; i < 2; ++i) step(f64({1}));
  flag = 2;
  text = replay_error(step, f64({1}));
  CHECK(contains(text, "launch 5, scale, is missing now"));
}

TEST_CASE("with verify, a changed attribute is found and its op is named") {
  const Mode mode(Replay::verify);
  double factor = 1;
  Step step([&](const Tensor& x) { return scale(square(x), factor); });
  for (int i = 0; i < 2; ++i) step(f64({1}));
  factor = 2;
  const std::string text = replay_error(step, f64({1}));
  CAPTURE(text);
  CHECK(contains(text, "Step: launch 1, scale: attributes differ from the recorded ones"));
}

TEST_CASE("with verify, a captured tensor that was replaced is found") {
  const Mode mode(Replay::verify);
  Tensor w = f64({1});
  Step step([&](const Tensor& x) { return mul(x, w); });
  for (int i = 0; i < 2; ++i) step(f64({1}));
  w = f64({2});
  const std::string text = replay_error(step, f64({1}));
  CAPTURE(text);
  CHECK(contains(text, "launch 0, mul: works on other tensors than when recorded"));
  CHECK(contains(text, "copy_from"));
}

TEST_CASE("after verify has found a change the Step records afresh and is right") {
  const Mode mode(Replay::verify);
  double factor = 1;
  Step step([&](const Tensor& x) { return scale(x, factor); });
  for (int i = 0; i < 2; ++i) step(f64({1}));
  factor = 2;
  CHECK(replay_error(step, f64({1})) != "");
  for (int i = 1; i <= 40; ++i) CHECK(step(f64({1.0 * i})).item() == 2 * i);
}

TEST_CASE(
    "verify runs the function in call 3 and every tenth from there, and compares, so that a true Step stays quiet") {
  const Mode mode(Replay::verify);
  int runs = 0;
  Tensor w = parameter({1, 2});
  Step step([&](const Tensor& x) {
    ++runs;
    Tape tape;
    const Tensor loss = sum(square(mul(flat(w), x)));
    descend(w, tape.backward(loss)[w], 1e-3);
    return loss;
  });
  CHECK(replay_error(step, f64({1, -1})) == "");  // 30 calls
  CHECK(runs == 5);                               // 1, 2, 3, 13, 23
}

TEST_CASE("without verify a captured tensor that was replaced is kept alive as it was recorded") {
  const Mode mode(Replay::on);
  Tensor w = f64({5});
  Step step([&](const Tensor& x) { return mul(x, w); });
  for (int i = 0; i < 2; ++i) step(f64({1}));
  w = Tensor();
  const Tensor other = f64({99});  // would take the bytes, if they were free
  CHECK(step(f64({2})).item() == 10);
}

TEST_CASE("an input slot that the function kept is refused as another input, which would overwrite it first") {
  Tensor kept;
  Step step([&](const Tensor& a, const Tensor& b) {
    kept = a;
    return small::add(a, b);
  });
  step(f64({1}), f64({2}));
  CHECK_THROWS_WITH_AS(step(f64({5}), kept), doctest::Contains("clone() it there"), ReplayError);
  CHECK(values(step(f64({5}), f64({2}))) == Doubles{7});
}

TEST_CASE("with verify, a flag that chooses among results without changing a launch is found") {
  const Mode mode(Replay::verify);
  bool flag = false;
  Step step([&](const Tensor& x) {
    const Tensor a = small::square(x), b = small::exp(x);
    return flag ? a : b;
  });
  for (int call = 0; call < 2; ++call) step(f64({1}));
  flag = true;
  CHECK_THROWS_WITH_AS(step(f64({1})), doctest::Contains("other results are returned"), ReplayError);
}
