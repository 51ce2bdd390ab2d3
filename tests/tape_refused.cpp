// What the tape refuses where an op is applied: it says so before the kernel, which may write its inputs.
#include <doctest/doctest.h>

#include <xent/core/tape.h>

#include "small_ops.h"

using namespace xent;
using small::Doubles, small::f64, small::parameter, small::values;
using small::square;

TEST_CASE("a gradient for an input that has none is refused where the op is applied") {
  static constexpr Op scaled_op = {
      .name = "scaled",
      .formula = "y = a b",
      .inputs = 2,
      .infer = small::like_first,
      .forward = small::mul_op.forward,
      .backward = small::mul_op.backward,
      .differentiable = 0b01,
  };
  const Tensor a = f64({2}), b = f64({3});
  Tape tape;
  tape.watch(a);
  CHECK(values(apply(scaled_op, {a, b})[0]) == Doubles{6});
  tape.watch(b);
  CHECK_THROWS_WITH_AS(apply(scaled_op, {a, b}), "scaled: there is no gradient for input 1 of shape [1]; detach() it",
                       TapeError);
  CHECK(values(tape.backward(apply(scaled_op, {a, b.detach()})[0])[a]) == Doubles{3});
}

TEST_CASE("a call that the tape refuses has run no kernel: what the op would have updated has the bits it had") {
  static constexpr Op count_op = {
      .name = "count",
      .formula = "y = x, n += 1",
      .inputs = 2,
      .infer = small::like_first,
      .forward = {[](const Call& c) { *c.in[1].as<double>() += 1; }},
      .backward = {[](const Call&) {}},
      .needs_in = nothing,
      .needs_out = nothing,
      .differentiable = 0b01,
      .updates = 0b10,
  };
  static constexpr Op both_op = [](Op op) {
    op.differentiable = 0b11;
    return op;
  }(count_op);
  const Tensor x = parameter({3}), number = f64({0}), wanted = parameter({0});
  Tape tape;
  Tensor written = square(x), hidden;
  written.fill(5);
  {
    const Tape inner;
    hidden = square(x);
  }
  tape.watch(hidden);
  CHECK_THROWS_WITH_AS(apply(count_op, {x, wanted}), doctest::Contains("no gradient for input 1"), TapeError);
  CHECK_THROWS_WITH_AS(apply(count_op, {written, number}), doctest::Contains("written in place"), TapeError);
  CHECK_THROWS_WITH_AS(apply(count_op, {hidden, number}), doctest::Contains("out of this tape's sight"), TapeError);
  CHECK_THROWS_WITH_AS(apply(both_op, {x, number}), doctest::Contains("updates input 1"), TapeError);
  CHECK(values(number) == Doubles{0});
  CHECK(values(wanted) == Doubles{0});
  CHECK(tape.size() == 1);
  apply(count_op, {x, number});
  CHECK(values(number) == Doubles{1});
  CHECK(tape.size() == 2);
}
