// What the loss stores: beside its outputs and the gradient at most a pair of numbers per row, whatever the way to call
// it; and nothing at all in a step that is warm.
#include <doctest/doctest.h>

#include <xent/xent.h>

#include "count_allocations.h"
#include "loss_calls.h"
#include "replay_mode.h"

using namespace xent;
using Kind = Reduction::Kind;

namespace {

constexpr int64_t rows = 1 << 11, classes = 64;
constexpr size_t constant = 1 << 12;  // bytes, far from the size of anything that has rows

// The bytes that a call took at its peak.
template <class F>
size_t peak_of(const F& call) {
  call();  // what is made once
  const size_t before = memory_stats().live_bytes;
  reset_peak_memory();
  call();
  return memory_stats().peak_live_bytes - before;
}

size_t per_row(DType dtype) { return rows * (dtype == DType::f64 ? 16 : 8); }

struct Inputs {
  Tensor logits, labels, distribution;
};

Inputs inputs_of(DType dtype, int64_t axis) {
  const Shape shape = axis == 0 ? Shape{classes, rows} : Shape{rows, classes};
  const Tensor x = cast(normal_sample(shape, DType::f32, 1), dtype);
  return {x, label_sample({rows}, classes, DType::u8, 2),
          cast(softmax(normal_sample(shape, DType::f32, 3), axis), dtype)};
}

}  // namespace

TEST_CASE("a forward pass stores a pair of numbers per row") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const int64_t axis : {0, 1}) {
      const auto [x, y, q] = inputs_of(dtype, axis);
      for (const Tensor& target : {y, q})
        for (const Kind kind : {Kind::none, Kind::sum, Kind::mean}) {
          const SoftmaxCrossEntropyOptions options{
              .axis = axis, .target = {.smoothing = 0.1}, .reduction = {.kind = kind}};
          const size_t loss = kind == Kind::none ? rows * (dtype == DType::f64 ? 8 : 4) : 0;
          CHECK(peak_of([&] { softmax_cross_entropy(x, target, options); }) <= loss + per_row(dtype) + constant);
        }
    }
}

TEST_CASE("forward and backward on a tape store that and the gradient, whether the loss is the root or not") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const int64_t axis : {0, 1}) {
      const auto [x, y, q] = inputs_of(dtype, axis);
      for (const Tensor& target : {y, q})
        for (const Kind kind : {Kind::none, Kind::sum, Kind::mean})
          for (const double factor : {1.0, 3.0}) {
            const SoftmaxCrossEntropyOptions options{.axis = axis, .reduction = {.kind = kind}};
            const size_t loss = kind == Kind::none ? rows * (dtype == DType::f64 ? 8 : 4) : 0;
            const size_t peak = peak_of([&] {
              Tape tape;
              tape.watch(x);
              Tensor loss_of_x = softmax_cross_entropy(x, target, options);
              if (factor != 1) loss_of_x = scale(loss_of_x, factor);
              const Tensor ones = kind == Kind::none ? Tensor::ones({rows}, loss_of_x.dtype()) : Tensor();
              tape.backward(loss_of_x, {.upstream = ones});
            });
            CAPTURE(dtype);
            CAPTURE(static_cast<int>(kind));
            CAPTURE(factor);
            CHECK(peak <= 4 * loss + x.bytes() + per_row(dtype) + constant);  // losses, scaled ones, their gradients
          }
    }
}

TEST_CASE("loss and gradient in one pass store that, and nothing of the logits' size if these may be overwritten") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const auto [x, y, q] = inputs_of(dtype, 1);
    for (const Tensor& target : {y, q}) {
      CHECK(peak_of([&] { softmax_cross_entropy_with_grad(x, target); }) <= x.bytes() + per_row(dtype) + constant);
      const size_t copy = x.bytes();
      CHECK(peak_of([&] { softmax_cross_entropy_with_grad(x.clone(), target); }) <= copy + per_row(dtype) + constant);
    }
  }
}

TEST_CASE("the gradient from statistics stores nothing but itself") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const auto [x, y, q] = inputs_of(dtype, 1);
    for (const Tensor& target : {y, q}) {
      const Tensor statistics = softmax_cross_entropy_outputs(x, target).statistics, one = Tensor::ones({});
      CHECK(statistics.bytes() == per_row(dtype));
      CHECK(peak_of([&] { softmax_cross_entropy_grad(one, x, target, statistics); }) <= x.bytes() + constant);
    }
  }
}

TEST_CASE("the gradient of a distribution needs room for itself only") {
  const auto [x, y, q] = inputs_of(DType::f32, 1);
  const size_t peak = peak_of([&] {
    Tape tape;
    tape.watch(x);
    tape.watch(q);
    tape.backward(softmax_cross_entropy(x, q));
  });
  CHECK(peak <= 2 * x.bytes() + per_row(DType::f32) + constant);
}

TEST_CASE("log-probabilities are stored when they are asked for, and only then") {
  const auto [x, y, q] = inputs_of(DType::f32, 1);
  const auto peak = [&](bool log_probs) {
    return peak_of([&] { softmax_cross_entropy_outputs(x, y, {.output = {.log_probs = log_probs}}); });
  };
  CHECK(peak(true) >= x.bytes());
  CHECK(peak(true) <= x.bytes() + per_row(DType::f32) + constant);
  CHECK(peak(false) <= per_row(DType::f32) + constant);
}

TEST_CASE("a warm step takes no memory, whatever the options") {
  const Mode mode(Replay::on);
  const auto [x, y, q] = inputs_of(DType::f32, 1);
  const LossInputs inputs{.class_weights = Tensor::ones({classes}), .element_weights = Tensor::ones({rows})};
  for (const Tensor& target : {y, q})
    for (const Kind kind : {Kind::none, Kind::sum, Kind::mean}) {
      const SoftmaxCrossEntropyOptions options{.target = {.smoothing = 0.1}, .reduction = {.kind = kind}};
      Step step([&](const Tensor& logits, const Tensor& t) {
        Tape tape;
        tape.watch(logits);
        const Tensor loss = softmax_cross_entropy(logits, t, options, inputs);
        return tape.backward(sum(loss))[logits];
      });
      for (int i = 0; i < 4; ++i) step(x, target);
      const uint64_t allocated = allocations, requested = memory_stats().requests;
      for (int i = 0; i < 5; ++i) step(x, target);
      CHECK(allocations == allocated);
      CHECK(memory_stats().requests == requested);
    }
}

TEST_CASE("an eager call that is warm asks the system for nothing") {
  const auto [x, y, q] = inputs_of(DType::bf16, 1);
  for (int i = 0; i < 3; ++i) run(slice_rows(x, 0, 64), slice_rows(y, 0, 64));
  const uint64_t calls = memory_stats().system_calls;
  for (int i = 0; i < 5; ++i) run(slice_rows(x, 0, 64), slice_rows(y, 0, 64));
  CHECK(memory_stats().system_calls == calls);
}

TEST_CASE("the counter counts") {
  const uint64_t before = allocations;
  const std::vector<int> some(100);
  CHECK(allocations > before);
  CHECK(some.size() == 100);
}
