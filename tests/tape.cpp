// Tapes: what they record, and how gradients flow and add up. tape_footguns.cpp has what they refuse, tape_memory.cpp
// whose bytes they keep and write.
#include <cmath>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/tape.h>

#include "small_ops.h"

using namespace xent;
using small::add, small::exp, small::flat, small::mul, small::scale, small::square, small::sum;
using small::Doubles, small::f64, small::parameter, small::values;

// ---- what is recorded ----

TEST_CASE("the gradient of a watched tensor comes back under that tensor") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Gradients gradients = tape.backward(sum(square(x)));
  CHECK(values(gradients[x]) == Doubles{6});
  CHECK(gradients.size() == 1);
}

TEST_CASE("a parameter needs no watching") {
  const Tensor w = parameter({1, 2});
  Tape tape;
  CHECK(values(tape.backward(sum(square(w)))[w]) == Doubles{2, 4});
}

TEST_CASE("nothing is recorded without a tape, or if no input wants a gradient") {
  const Tensor w = parameter({1}), x = f64({1});
  square(w);
  CHECK(Tape::recording() == nullptr);
  Tape tape;
  CHECK(Tape::recording() == &tape);
  square(x);
  CHECK(tape.size() == 0);
  add(x, square(w));
  CHECK(tape.size() == 2);
}

TEST_CASE("a result may be watched as well") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  tape.watch(y);
  const Gradients gradients = tape.backward(sum(square(y)));
  CHECK(values(gradients[y]) == Doubles{18});
  CHECK(values(gradients[x]) == Doubles{108});
}

TEST_CASE("the root may be watched, even if it is a leaf") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  CHECK(values(tape.backward(x)[x]) == Doubles{1});
}

TEST_CASE("a tensor that the root does not depend on gets no gradient, and asking for it says why") {
  const Tensor x = f64({3}), other = f64({4});
  Tape tape;
  tape.watch(x);
  tape.watch(other);
  square(other);
  const Gradients gradients = tape.backward(square(x));
  CHECK(gradients.find(other) == nullptr);
  CHECK_FALSE(gradients.contains(other));
  CHECK_THROWS_WITH_AS(
      gradients[other],
      "no gradient for a tensor of shape [1]: watch it before it is used, and make sure the loss depends on it",
      TapeError);
}

TEST_CASE("backward may start in the middle of what was recorded") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  square(y);
  CHECK(values(tape.backward(y)[x]) == Doubles{6});
}

TEST_CASE("an op without a backward makes constants") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = mul(square(x), small::checked(x));  // x^2 times a constant 3
  CHECK(tape.size() == 2);
  CHECK(values(tape.backward(y)[x]) == Doubles{18});
}

TEST_CASE("detach makes a constant") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  CHECK(values(tape.backward(mul(x, x.detach()))[x]) == Doubles{3});
}

TEST_CASE("integers and empty handles cannot be watched") {
  Tape tape;
  CHECK_THROWS_WITH_AS(tape.watch(Tensor::zeros({2}, DType::i64)), "watch: a tensor of i64 has no gradient",
                       DTypeError);
  CHECK_THROWS_AS(tape.watch(Tensor()), ArgumentError);
}

// ---- several uses, several gradients ----

TEST_CASE("gradients of several uses add up") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  // x^2 + 5x + e^x: by ops that accumulate and ops that do not
  const Tensor y = add(add(square(x), scale(x, 5)), exp(x));
  CHECK(values(tape.backward(y)[x])[0] == doctest::Approx(2 * 3 + 5 + std::exp(3)));
}

TEST_CASE("a tensor may be several inputs of one op") {
  const Tensor x = f64({3, -2});
  Tape tape;
  tape.watch(x);
  CHECK(values(tape.backward(sum(mul(x, x)))[x]) == Doubles{6, -4});
}

TEST_CASE("a tensor may be both inputs of an op that accumulates, next to other uses") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = add(add(x, x), mul(x, add(x, x)));  // 2x + 2x^2
  CHECK(values(tape.backward(y)[x]) == Doubles{14});
}

TEST_CASE("the gradient of a long chain with branches is the product and sum of its parts") {
  const Tensor x = f64({0.5});
  Tape tape;
  tape.watch(x);
  Tensor y = x;
  double dy = 1, value = 0.5;
  for (int i = 0; i < 50; ++i) {  // y <- 0.5 y + 0.25 y^2
    y = add(scale(y, 0.5), scale(square(y), 0.25));
    dy *= 0.5 + 0.5 * value;
    value = 0.5 * value + 0.25 * value * value;
  }
  CHECK(values(tape.backward(y)[x])[0] == doctest::Approx(dy));
}

TEST_CASE("an op with several outputs backs up from those whose gradient arrived; the others' slices say their shape") {
  static constexpr Op split_op = {
      .name = "split",
      .formula = "y = x, z = 2x as f64 [1]",
      .infer =
          [](std::span<const Spec> in, const Attrs&) {
            return Specs{in[0], {.shape = {1}, .dtype = DType::f64}};
          },
      .forward = {[](const Call& c) {
        small::write_each(c.out[0], [&]<class T>(int64_t i) { return small::at<T>(c.in[0], i); });
        small::write_each(c.out[1], [&]<class T>(int64_t) { return 2 * static_cast<T>(small::at<float>(c.in[0], 0)); });
      }},
      .backward = {[](const Call& c) {
        const Slice &dy = c.grad_out[0], &dz = c.grad_out[1];
        if (dy.shape != Shape{2} || dy.dtype != DType::f32 || dz.shape != Shape{1} || dz.dtype != DType::f64)
          throw Error("shapes");
        small::write_each(c.grad_in[0], [&]<class T>(int64_t i) {
          return (dy ? small::at<T>(dy, i) : T(0)) +
                 (dz && i == 0 ? static_cast<T>(2 * small::at<double>(dz, 0)) : T(0));
        });
      }},
  };
  const Tensor x = Tensor::from({3, 4}, {2});
  const auto gradient = [&](bool first, bool second) {
    Tape tape;
    tape.watch(x);
    const Tensors y = apply(split_op, {x});
    // Both at once: upstream of one, then of the other, into the same gradients.
    Gradients gradients;
    const BackwardOptions retain = {.upstream = {}, .retain = true};
    if (first) tape.backward(sum(y[0]), gradients, retain);
    if (second) tape.backward(y[1], gradients, retain);
    return gradients[x].to_vector<float>();
  };
  CHECK(gradient(true, false) == std::vector<float>{1, 1});
  CHECK(gradient(false, true) == std::vector<float>{2, 0});
  CHECK(gradient(true, true) == std::vector<float>{3, 1});
}

TEST_CASE("an optional input that is not given gets no gradient") {
  static constexpr Op affine_op = {
      .name = "affine",
      .formula = "y = a + b",
      .inputs = 2,
      .infer = small::like_first,
      .forward = {[](const Call& c) {
        small::write_each(c.out[0], [&]<class T>(int64_t i) {
          return small::at<T>(c.in[0], i) + (c.in[1] ? small::at<T>(c.in[1], i) : T(0));
        });
      }},
      .backward = small::add_op.backward,
      .optional = 0b10,
  };
  const Tensor a = f64({1}), b = f64({2});
  Tape tape;
  tape.watch(a);
  tape.watch(b);
  const Tensor y = add(apply(affine_op, {a, Tensor()})[0], apply(affine_op, {a, b})[0]);
  const Gradients gradients = tape.backward(y);
  CHECK(values(gradients[a]) == Doubles{2});
  CHECK(values(gradients[b]) == Doubles{1});
}

// ---- roots and upstream gradients ----

TEST_CASE("a root of several elements needs an upstream gradient") {
  const Tensor x = f64({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  CHECK_THROWS_WITH_AS(tape.backward(y),
                       "backward: the root has shape [2]; reduce it to one element, or pass an upstream gradient",
                       ShapeError);
  CHECK(values(tape.backward(y, {.upstream = f64({10, 100})})[x]) == Doubles{20, 400});  // and the tape was left usable
}

TEST_CASE("an upstream gradient has the root's shape and dtype") {
  const Tensor x = f64({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  CHECK_THROWS_WITH_AS(tape.backward(y, {.upstream = f64({1})}), "backward: upstream gradient [1] for a root [2]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(tape.backward(y, {.upstream = Tensor::ones({2})}),
                       "backward: upstream gradient of f32 for a root of f64", DTypeError);
}

TEST_CASE("an upstream gradient scales a root of one element") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  CHECK(values(tape.backward(square(x), {.upstream = f64({0.5})})[x]) == Doubles{3});
}

TEST_CASE("tensors without elements have gradients without elements") {
  const Tensor x = Tensor::zeros({0, 3}, DType::f64);
  Tape tape;
  tape.watch(x);
  const Gradients gradients = tape.backward(sum(square(x)));
  CHECK(gradients[x].shape() == Shape{0, 3});
}

// ---- accumulation into gradients that exist ----

TEST_CASE("backward into existing gradients adds to them, in the same bytes") {
  const Tensor w = parameter({1, 2});
  Gradients total = Gradients::zeros({&w, 1});
  const void* bytes = total[w].raw();
  const uint64_t version = total[w].storage()->version();
  for (int batch = 0; batch < 3; ++batch) {
    Tape tape;
    tape.backward(sum(mul(w, w)), total);
  }
  CHECK(values(total[w]) == Doubles{6, 12});
  CHECK(total[w].raw() == bytes);
  CHECK(total[w].storage()->version() > version);
  total.fill(0);
  CHECK(values(total[w]) == Doubles{0, 0});
}

TEST_CASE("backward into gradients keeps those it has nothing to say about") {
  const Tensor w = parameter({1}), other = parameter({5});
  Gradients gradients;
  gradients.set(other, f64({7}));
  Tape tape;
  tape.backward(square(w), gradients);
  CHECK(values(gradients[other]) == Doubles{7});
  CHECK(values(gradients[w]) == Doubles{2});
}

TEST_CASE("a watched result is accumulated without sending what was there before down again") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  tape.watch(y);
  const Tensor z = square(y);
  Gradients gradients;
  for (int i = 0; i < 3; ++i) tape.backward(z, gradients, {.upstream = {}, .retain = true});
  CHECK(values(gradients[y]) == Doubles{3 * 18});
  CHECK(values(gradients[x]) == Doubles{3 * 108});
}

TEST_CASE("a watched root is accumulated without starting from what was there before") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  tape.watch(y);
  Gradients gradients;
  for (int i = 0; i < 3; ++i) tape.backward(y, gradients, {.upstream = {}, .retain = true});
  CHECK(values(gradients[y]) == Doubles{3});
  CHECK(values(gradients[x]) == Doubles{18});
}

TEST_CASE("gradients to add to must not be read by the same backward") {
  const Tensor x = f64({3});
  Gradients gradients = Gradients::zeros({&x, 1});
  gradients.fill(1);
  Tape tape;
  tape.watch(x);
  const Tensor y = mul(x, gradients[x]);  // kept by mul
  CHECK_THROWS_WITH_AS(tape.backward(y, gradients), doctest::Contains("clone() it"), TapeError);
  CHECK_THROWS_WITH_AS(tape.backward(y, gradients, {.upstream = gradients[x]}), doctest::Contains("clone() it"),
                       TapeError);
  CHECK(values(gradients[x]) == Doubles{1});
  CHECK(values(tape.backward(y)[x]) == Doubles{1});  // the tape was left usable
}

TEST_CASE("setting a gradient checks it") {
  const Tensor x = f64({1, 2});
  Gradients gradients;
  CHECK_THROWS_AS(gradients.set(x, f64({1})), ShapeError);
  CHECK_THROWS_AS(gradients.set(x, Tensor::ones({2})), DTypeError);
  CHECK_THROWS_AS(gradients.set(Tensor::scalar(1), Tensor()), ArgumentError);
  CHECK_THROWS_AS(gradients.set(Tensor(), Tensor::scalar(1)), ArgumentError);
  gradients.set(x, f64({3, 4}));
  gradients.set(x, f64({5, 6}));
  CHECK(gradients.size() == 1);
  CHECK(values(gradients[x]) == Doubles{5, 6});
}

// ---- several backward passes ----

TEST_CASE("backward a second time is refused unless the first one retained") {
  const Tensor x = f64({3});
  Tape tape;
  tape.watch(x);
  const Tensor y = square(x);
  tape.backward(y);
  CHECK_THROWS_WITH_AS(tape.backward(y),
                       doctest::Contains("pass {.retain = true} to go back through the same one again"), TapeError);
  CHECK_THROWS_AS(tape.watch(x), TapeError);
  CHECK(Tape::recording() == nullptr);
}

TEST_CASE("a retained backward can be repeated, bit by bit, and the tape still records") {
  const Tensor x = f64({0.1, -0.7, 2.3});
  Tape tape;
  tape.watch(x);
  const Tensor v = flat(x);
  const Tensor y = sum(add(mul(exp(v), square(x)), add(v, x)));
  const BackwardOptions retain = {.upstream = {}, .retain = true};
  const Doubles first = values(tape.backward(y, retain)[x]);
  CHECK(values(tape.backward(y, retain)[x]) == first);
  const Tensor z = scale(y, 2);
  const Doubles doubled = values(tape.backward(z)[x]);
  for (size_t i = 0; i < 3; ++i) CHECK(doubled[i] == 2 * first[i]);
}

// ---- print ----

TEST_CASE("print shows op, shapes, what is kept and its bytes") {
  const Tensor x = Tensor::zeros({2, 3});
  Tape tape;
  tape.watch(x);
  const Tensor y = exp(x);
  sum(mul(y, square(x)));
  CHECK(tape.print() ==
        "  #  op                     inputs -> outputs                                    kept                bytes\n"
        "  0  exp                    [2, 3] -> [2, 3]                                     out0                   24\n"
        "  1  square                 [2, 3] -> [2, 3]                                     in0                    24\n"
        "  2  mul                    [2, 3] [2, 3] -> [2, 3]                              in0 in1                48\n"
        "  3  sum                    [2, 3] -> []                                                                 0\n");
}

TEST_CASE("two tensors cannot have one gradient, nor a tensor itself as its own") {
  const Tensor a = f64({1}), b = f64({2}), g = f64({0});
  Gradients gradients;
  gradients.set(a, g);
  CHECK_THROWS_AS(gradients.set(b, g), ArgumentError);
  CHECK_THROWS_AS(gradients.set(a, a), ArgumentError);
  gradients.set(a, g);  // the same again is fine
}
