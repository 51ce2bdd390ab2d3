// Whose bytes a tape keeps, shares and writes: what backward does not read is released, and nothing that anybody else
// can see is written.
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/fill.h>
#include <xent/core/tape.h>

#include "small_ops.h"

using namespace xent;
using small::add, small::exp, small::flat, small::mul, small::scale, small::square, small::sum;
using small::Doubles, small::f64, small::values;

namespace {

constexpr int64_t large = 1 << 16;         // elements
constexpr size_t large_bytes = large * 8;  // as f64; a power of two is its own bucket

size_t live_bytes() { return memory_stats().live_bytes; }

}  // namespace

// ---- what is kept ----

TEST_CASE("inputs and outputs that backward does not read are released while the tape lives") {
  const Tensor x = Tensor::ones({large}, DType::f64);
  Tape tape;
  tape.watch(x);
  const size_t before = live_bytes();
  const Tensor y = scale(scale(scale(x, 2), 2), 2);
  CHECK(live_bytes() == before + large_bytes);  // y alone
  CHECK(tape.kept_bytes() == 0);
  CHECK(values(tape.backward(sum(y))[x])[large - 1] == 8);
}

TEST_CASE("what backward reads is kept, once however many nodes read it") {
  const Tensor x = Tensor::ones({large}, DType::f64);
  Tape tape;
  tape.watch(x);
  const size_t before = live_bytes();
  Tensor y = exp(x);     // keeps y
  Tensor z = square(y);  // keeps y
  y = z = Tensor();
  CHECK(live_bytes() == before + large_bytes);
  CHECK(tape.kept_bytes() == 2 * large_bytes);
}

TEST_CASE("a view keeps nothing of its own") {
  const Tensor x = Tensor::ones({2, large}, DType::f64);
  Tape tape;
  tape.watch(x);
  const size_t before = live_bytes();
  const Tensor y = flat(x);
  CHECK(tape.size() == 1);
  CHECK(live_bytes() == before);
  CHECK(y.raw() == x.raw());
}

TEST_CASE("backward holds two gradients at a time") {
  const Tensor x = Tensor::ones({large}, DType::f64);
  Tape tape;
  tape.watch(x);
  Tensor y = x;
  for (int i = 0; i < 8; ++i) y = scale(y, 2);
  y = sum(y);
  reset_peak_memory();
  const size_t start = live_bytes();
  tape.backward(y);
  CHECK(memory_stats().peak_live_bytes <= start + 2 * large_bytes + 256);  // and a scalar
}

TEST_CASE("backward releases what was kept as it goes, unless it retains it") {
  static size_t seen = 0;
  static constexpr Op probe_op = {
      .name = "probe",
      .formula = "y = x",
      .infer = small::like_first,
      .forward = small::checked_op.forward,
      .backward = {[](const Call& c) {
        seen = live_bytes();
        copy_op.backward.cpu(c);
      }},
      .needs_in = nothing,
      .needs_out = nothing,
  };
  const size_t before = live_bytes();
  for (const bool retain : {false, true}) {
    const Tensor x = Tensor::ones({large}, DType::f64);
    Tape tape;
    tape.watch(x);
    Tensor y = apply(probe_op, {x})[0];
    for (int i = 0; i < 8; ++i) y = square(y);
    y = sum(y);
    CHECK(live_bytes() > before + 8 * large_bytes);
    tape.backward(y, {.upstream = {}, .retain = retain});
    CHECK((seen > before + 8 * large_bytes) == retain);
    CHECK((seen < before + 4 * large_bytes) == !retain);  // x and two gradients
    CHECK((tape.size() == 0) == !retain);
  }
  CHECK(live_bytes() == before);
}

TEST_CASE("a tape that ends without backward, or in an exception of it, releases everything") {
  static constexpr Op failing_op = {
      .name = "failing",
      .formula = "y = x",
      .infer = small::like_first,
      .forward = small::checked_op.forward,
      .backward = {[](const Call&) { throw LabelError("failing: backward"); }},
  };
  const Tensor x = Tensor::ones({large}, DType::f64);
  const size_t before = live_bytes();
  {
    Tape tape;
    tape.watch(x);
    square(square(x));
  }
  CHECK(live_bytes() == before);
  Tape tape;
  tape.watch(x);
  {
    const Tensor loss = sum(square(apply(failing_op, {square(x)})[0]));
    CHECK_THROWS_AS(tape.backward(loss), LabelError);
  }
  CHECK(live_bytes() == before);
}

TEST_CASE("gradients outlive their tape") {
  const Tensor x = f64({3});
  Gradients gradients;
  {
    Tape tape;
    tape.watch(x);
    gradients = tape.backward(square(x));
  }
  CHECK(values(gradients[x]) == Doubles{6});
}

// ---- what is shared ----

TEST_CASE("the upstream gradient is never written, nor handed out") {
  const Tensor x = f64({1, 2});
  const Tensor upstream = f64({10, 20});
  const uint64_t version = upstream.storage()->version();
  Tape tape;
  tape.watch(x);
  const Tensor v = flat(x);
  tape.watch(v);
  const Tensor root = flat(v);
  Gradients gradients;
  for (int i = 0; i < 2; ++i) tape.backward(root, gradients, {.upstream = upstream, .retain = true});
  CHECK(values(gradients[x]) == Doubles{20, 40});
  CHECK(values(gradients[v]) == Doubles{20, 40});
  CHECK(values(upstream) == Doubles{10, 20});
  CHECK(upstream.storage()->version() == version);
  CHECK(gradients[x].storage() != upstream.storage());
  CHECK(gradients[v].storage() != upstream.storage());
}

TEST_CASE("the gradient of a leaf that is the root is a copy of the upstream gradient") {
  const Tensor x = f64({1}), upstream = f64({5});
  Tape tape;
  tape.watch(x);
  Tensor gradient = tape.backward(x, {.upstream = upstream})[x];
  gradient.fill(0);
  CHECK(values(upstream) == Doubles{5});
}

TEST_CASE("the gradients of a tensor and of its view are separate tensors") {
  const Tensor x = f64({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor v = flat(x);
  tape.watch(v);
  const Gradients gradients = tape.backward(sum(square(v)));
  Tensor of_view = gradients[v];
  of_view.fill(0);
  CHECK(values(gradients[x]) == Doubles{2, 4});
}

TEST_CASE("a gradient that a view shares is not added to while somebody wants it") {
  // Backward reaches flat first, so that x and v share a gradient, and then ops of either kind with more for x.
  const Tensor x = f64({1, 2});
  for (const bool accumulating : {true, false}) {
    CAPTURE(accumulating);
    Tape tape;
    tape.watch(x);
    const Tensor more = accumulating ? add(x, f64({7, 7})) : scale(x, 1);
    const Tensor v = flat(x);
    tape.watch(v);
    const Gradients gradients = tape.backward(sum(add(more, mul(v, f64({10, 20})))));
    CHECK(values(gradients[v]) == Doubles{10, 20});
    CHECK(values(gradients[x]) == Doubles{11, 21});
  }
}

TEST_CASE("several views of one tensor bring gradients of which none is lost") {
  const Tensor x = f64({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor a = flat(x), b = flat(x), c = flat(a);
  const Tensor y = add(mul(a, f64({1, 2})), add(mul(b, f64({10, 20})), mul(c, f64({100, 200}))));
  CHECK(values(tape.backward(sum(y))[x]) == Doubles{111, 222});
}

TEST_CASE("a view's gradient has the input's shape") {
  const Tensor x = Tensor::ones({2, 3}, DType::f64);
  Tape tape;
  tape.watch(x);
  CHECK(tape.backward(sum(square(flat(x))))[x].shape() == Shape{2, 3});
}

TEST_CASE("backward asks ops that accumulate to add only where a gradient is already its own") {
  static std::vector<float> betas;
  static constexpr Op probe_op = {
      .name = "probe",
      .formula = "y = a + b",
      .inputs = 2,
      .infer = small::like_first,
      .forward = small::add_op.forward,
      .backward = {[](const Call& c) {
        for (const Slice& gradient : c.grad_in) betas.push_back(gradient ? gradient.beta : -1);
        small::add_op.backward.cpu(c);
      }},
      .needs_in = nothing,
      .needs_out = nothing,
      .accumulates = true,
  };
  const Tensor x = f64({1}), constant = f64({2});
  const auto betas_of = [&](const auto& function) {
    betas.clear();
    Tape tape;
    tape.watch(x);
    function(tape);
    return betas;
  };
  const auto probe = [](const Tensor& a, const Tensor& b) { return apply(probe_op, {a, b})[0]; };
  using Betas = std::vector<float>;

  CHECK(betas_of([&](Tape& tape) { tape.backward(probe(x, constant)); }) == Betas{0, -1});
  CHECK(betas_of([&](Tape& tape) { tape.backward(probe(x, x)); }) == Betas{0, 0});
  CHECK(betas_of([&](Tape& tape) { tape.backward(probe(probe(x, constant), x)); }) == Betas{0, 0, 1, -1});
  CHECK(betas_of([&](Tape& tape) {
          Gradients into = Gradients::zeros({&x, 1});
          tape.backward(probe(x, x), into);
          CHECK(values(into[x]) == Doubles{2});
        }) == Betas{1, 0});  // only one of the two may write into the caller's tensor
}

TEST_CASE("gradients of several parameters may be parts of one buffer") {
  Tensor a = f64({1, 2}), b = f64({3, 4});
  a.set_requires_grad();
  b.set_requires_grad();
  const Tensor buffer = f64({0, 0, 100, 100});
  Gradients gradients;
  gradients.set(a, buffer.view({2}, 0));
  gradients.set(b, buffer.view({2}, 2));
  Tape tape;
  tape.backward(sum(mul(a, b)), gradients);
  CHECK(values(buffer) == Doubles{3, 4, 101, 102});
}

// ---- the engine's own ops ----

TEST_CASE("copy adds to a gradient that is there") {
  const Tensor x = f64({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor y = add(mul(x.clone(), f64({10, 20})), mul(x.clone(), f64({1, 2})));
  CHECK(values(tape.backward(sum(y))[x]) == Doubles{11, 22});
}

TEST_CASE("a 16-bit tensor may be watched and copied") {
  const Tensor x = Tensor::ones({2}, DType::f16);
  Tape tape;
  tape.watch(x);
  const Gradients gradients = tape.backward(x.clone(), {.upstream = Tensor::full({2}, 0.5, DType::f16)});
  CHECK(static_cast<float>(gradients[x].to_vector<Float16>()[1]) == 0.5f);
}

TEST_CASE("accumulate adds in place, floats only") {
  const Tensor x = f64({1, 2});
  launch_accumulate(x, f64({10, 20}));
  CHECK(values(x) == Doubles{11, 22});
  const Tensor half = Tensor::ones({1}, DType::f16);
  launch_accumulate(half, half);
  CHECK(half.item() == 2);
  CHECK_THROWS_AS(launch_accumulate(Tensor::ones({1}, DType::i32), Tensor::ones({1}, DType::i32)), DTypeError);
}
