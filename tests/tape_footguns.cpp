// What would give a wrong gradient is an exception: another tape or thread, a second derivative, an overwritten tensor.
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/tape.h>

#include "small_ops.h"

using namespace xent;
using small::add, small::exp, small::flat, small::mul, small::scale, small::square, small::sum;
using small::Doubles, small::f64, small::parameter, small::values;

// ---- whose tape it is ----

TEST_CASE("a tensor of another tape, or of none, is no root") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  {
    Tape other;
    other.watch(x);
    CHECK_THROWS_AS(other.backward(y), TapeError);
  }
  CHECK_THROWS_WITH_AS(tape.backward(f64({1})),
                       "backward: the root of shape [1] was not computed on this tape from a parameter, or from a "
                       "tensor watched before it was "
                       "used",
                       TapeError);
  Tape empty;
  CHECK_THROWS_WITH_AS(empty.backward(f64({1})), doctest::Contains("this tape recorded nothing"), TapeError);
  CHECK_THROWS_AS(tape.backward(Tensor()), ArgumentError);
}

TEST_CASE("a tape belongs to its thread") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  bool recorded = true, refused_backward = false, refused_watch = false;
  std::thread([&] {
    recorded = Tape::recording() != nullptr;
    try {
      tape.backward(y);
    } catch (const TapeError&) {
      refused_backward = true;
    }
    try {
      tape.watch(x);
    } catch (const TapeError&) {
      refused_watch = true;
    }
  }).join();
  CHECK_FALSE(recorded);
  CHECK(refused_backward);
  CHECK(refused_watch);
  CHECK(values(tape.backward(y)[x]) == Doubles{6});
}

TEST_CASE("the innermost tape records") {
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  {
    Tape inner;
    inner.watch(x);
    CHECK(values(inner.backward(square(x))[x]) == Doubles{6});
    CHECK(outer.size() == 0);
  }
  CHECK(Tape::recording() == &outer);
  CHECK(values(outer.backward(square(x))[x]) == Doubles{6});
}

TEST_CASE("a tape that is done steps aside for the one around it") {
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  Tape inner;
  inner.watch(x);
  inner.backward(square(x));
  CHECK(Tape::recording() == &outer);
  CHECK(values(outer.backward(square(x))[x]) == Doubles{6});
}

TEST_CASE("a result that an inner tape recorded is refused by the outer one, which did not see how it came about") {
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  Tensor y;
  {
    Tape inner;
    inner.watch(x);
    y = square(x);
  }
  CHECK_THROWS_WITH_AS(mul(x, y), doctest::Contains("out of this tape's sight"), TapeError);
  CHECK_THROWS_AS(mul(x, exp(y)), TapeError);
  CHECK(values(outer.backward(mul(x, y.detach()))[x]) == Doubles{9});
}

TEST_CASE("so is a result that the outer tape alone would have recorded") {
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  Tensor y, constant;
  {
    const Tape inner, innermost;
    y = square(x);
    constant = square(f64({2}));
  }
  CHECK_THROWS_AS(mul(x, y), TapeError);
  CHECK(values(outer.backward(mul(x, constant))[x]) == Doubles{4});
}

TEST_CASE("tapes on the heap may end in any order") {
  const Tensor x = f64({3});
  std::vector<std::unique_ptr<Tape>> tapes;
  for (int i = 0; i < 4; ++i) tapes.push_back(std::make_unique<Tape>());
  tapes[1].reset();
  tapes[3].reset();
  CHECK(Tape::recording() == tapes[2].get());
  tapes[0].reset();
  tapes[2]->watch(x);
  CHECK(values(tapes[2]->backward(square(x))[x]) == Doubles{6});
  tapes[2].reset();
  CHECK(Tape::recording() == nullptr);
}

TEST_CASE("what copy_from wrote is refused by the tape that wants the gradient of its source") {
  const Tensor x = f64({3});
  Tensor buffer = f64({0}), other = f64({0});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  buffer.copy_from(y);
  other.copy_from(f64({5}));
  CHECK_THROWS_WITH_AS(mul(y, buffer), doctest::Contains("out of this tape's sight"), TapeError);
  CHECK(values(tape.backward(mul(y, other))[x]) == Doubles{30});
}

TEST_CASE("so is what was written through a view, and what an op updated from a gradient") {
  const Tensor x = f64({3}), w = f64({2});
  const Tensor buffer = f64({0, 0});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  buffer.view({1}, 0).copy_from(y);
  CHECK_THROWS_AS(mul(y, buffer.view({1}, 0)), TapeError);
  Tensor slope;
  {
    Tape inner;
    inner.watch(w);
    slope = inner.backward(square(w))[w];
  }
  apply(small::descend_op, {w, slope}, small::ScaleAttrs{0.5});  // w is now a function of what the outer tape may know
  CHECK_THROWS_AS(mul(y, w), TapeError);
  CHECK(values(tape.backward(mul(y, w.detach()))[x]) == Doubles{0});
}

TEST_CASE("a root that was overwritten since is refused") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  Tensor y = square(x);
  y.fill(100);
  CHECK_THROWS_WITH_AS(tape.backward(y), doctest::Contains("the root of shape [1] was written in place"), TapeError);
}

TEST_CASE("an op is given as many inputs as it takes") {
  const Tensor x = f64({3});
  CHECK_THROWS_WITH_AS(apply(small::add_op, {x}), "add: takes 2 inputs, got 1", ArgumentError);
  CHECK_THROWS_WITH_AS(apply(small::square_op, {x, x}), "square: takes 1 inputs, got 2", ArgumentError);
}

// ---- first derivatives only ----

TEST_CASE("using a gradient under the tape that records it is refused: it would need a second derivative") {
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  Tensor gradient;
  {
    Tape inner;
    inner.watch(x);
    gradient = inner.backward(square(x))[x];
  }
  const Tensor y = square(x);
  CHECK_THROWS_WITH_AS(add(y, gradient), doctest::Contains("Only first derivatives are supported; detach() it"),
                       TapeError);
  CHECK_THROWS_AS(add(y, square(gradient)), TapeError);          // nor what is computed from it,
  CHECK_THROWS_AS(add(y, flat(gradient)), TapeError);            // a view of it,
  CHECK_THROWS_AS(add(y, gradient.clone()), TapeError);          // or a copy
  CHECK_THROWS_AS(outer.backward(square(gradient)), TapeError);  // with no other input it is not on the tape at all
  CHECK(values(outer.backward(add(y, gradient.detach()))[x]) == Doubles{6});
}

TEST_CASE("a gradient of a retained tape cannot be used on that tape") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  const Tensor gradient = tape.backward(y, {.upstream = {}, .retain = true})[x];
  CHECK_THROWS_AS(mul(y, gradient), TapeError);
  CHECK(values(tape.backward(mul(y, gradient.detach()))[x]) == Doubles{36});
}

TEST_CASE("a gradient is an ordinary constant for tapes that come later, as adversarial examples need") {
  const Tensor w = parameter({2}), x = f64({3});
  Tensor attacked;
  {
    Tape tape;
    tape.watch(x);
    attacked = add(x, scale(tape.backward(square(mul(w, x)))[x], 0.1));  // x + 0.1 * 2 w^2 x = 5.4
  }
  Tape tape;
  CHECK(values(tape.backward(square(mul(w, attacked)))[w])[0] == doctest::Approx(2 * 2 * 5.4 * 5.4));
}

TEST_CASE("a gradient computed before an inner tape began is a constant there") {
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  Tensor gradient;
  {
    Tape inner;
    inner.watch(x);
    gradient = inner.backward(square(x))[x];
  }
  Tape later;
  later.watch(x);
  CHECK(values(later.backward(mul(x, gradient))[x]) == Doubles{6});
}

// ---- writing in place ----

TEST_CASE("a kept tensor that was written since is refused, by name, and the tape is left usable") {
  Tensor x = f64({3});
  const Tensor other = f64({5});
  Tape tape;
  tape.watch(x);
  tape.watch(other);
  const Tensor y = square(x);
  x.fill(4);
  CHECK_THROWS_WITH_AS(
      tape.backward(y),
      "backward: square kept a tensor of shape [1] that was written in place since; clone() it before writing",
      TapeError);
  CHECK(Tape::recording() == &tape);
  CHECK(square(other));
}

TEST_CASE("a kept tensor written through a view is found as well, also if it is an output") {
  const Tensor x = f64({3, 4});
  Tape tape;
  tape.watch(x);
  const Tensor y = exp(x);
  y.view({1}, 1).fill(0);
  CHECK_THROWS_AS(tape.backward(sum(y)), TapeError);
}

TEST_CASE("writing what no backward reads is allowed") {
  Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = scale(x, 2);
  x.fill(0);
  CHECK(values(tape.backward(y)[x]) == Doubles{2});
}

TEST_CASE("a result that was overwritten cannot be used further: its gradient would be that of the old value") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  Tensor y = scale(x, 2);
  y.fill(1);
  CHECK_THROWS_WITH_AS(scale(y, 3), doctest::Contains("written in place"), TapeError);
  CHECK(values(tape.backward(mul(x, y.detach()))[x]) == Doubles{1});
}

// ---- when a kernel throws ----

TEST_CASE("a kernel that throws in backward ends the tape, and nothing else") {
  static constexpr Op failing_op = {
      .name = "failing",
      .formula = "y = x",
      .infer = small::like_first,
      .forward = small::checked_op.forward,
      .backward = {[](const Call&) { throw LabelError("failing: backward"); }},
  };
  const Tensor x = f64({3});
  Tape outer;
  outer.watch(x);
  {
    Tape tape;
    tape.watch(x);
    const Tensor y = square(apply(failing_op, {square(x)})[0]);
    CHECK_THROWS_AS(tape.backward(y, {.upstream = {}, .retain = true}), LabelError);
    CHECK_THROWS_AS(tape.backward(y), LabelError);  // retained: still there
    CHECK_THROWS_AS(tape.backward(y), TapeError);   // this time it was not
    CHECK(Tape::recording() == &outer);
  }
  CHECK(values(outer.backward(square(x))[x]) == Doubles{6});
}

TEST_CASE("a kernel that throws in forward leaves no node behind") {
  const Tensor x = f64({-3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  static constexpr Op checked_op = {
      .name = "checked",
      .formula = "y = x",
      .infer = small::like_first,
      .forward = small::checked_op.forward,
      .backward = small::scale_op.backward,
  };
  CHECK_THROWS_AS(apply(checked_op, {x}), LabelError);
  CHECK(tape.size() == 1);
  CHECK(values(tape.backward(y)[x]) == Doubles{-6});
}
