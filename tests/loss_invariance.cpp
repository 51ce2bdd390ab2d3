// What must not change the loss: a common offset, masked classes, ignored rows, the number of threads, replay.
#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "replay_mode.h"

using namespace xent;
using Kind = Reduction::Kind;

namespace {

const std::vector<int64_t> class_counts = {1, 2, 3, 10, 31, 32, 33, 1000, 1024, 1025, 50257, 131073};

// Multiples of 1/16 in [-4, 4]: adding 1e6 to them is exact in f32.
std::vector<float> on_grid(int64_t count, uint64_t seed) {
  HostRandom random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = (static_cast<float>(random.below(129)) - 64) / 16;
  return values;
}

Tensor plus(std::vector<float> values, float c, const Shape& shape, DType dtype) {
  for (float& value : values) value += c;
  return cast(Tensor::from(values, shape), dtype);
}

// All that a call computes, as bytes.
struct Bits {
  std::string loss, log_probs, denominator, grad, grad_target;
  bool operator==(const Bits&) const = default;
};

// What a call is given; the ways that calls differ are those that kernels may differ by.
struct Input {
  Tensor logits, target;
  SoftmaxCrossEntropyOptions options = {};
  LossInputs inputs = {};
};

std::vector<Input> some_inputs() {
  std::vector<Input> list;
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const Kind kind : {Kind::none, Kind::sum, Kind::mean})
      for (const int64_t axis : {1, 2}) {
        const Shape shape = axis == 1 ? Shape{3, 67, 401} : Shape{3, 401, 67};
        const Tensor x = cast(normal_sample(shape, DType::f64, 1), dtype),
                     y = label_sample({3, 401}, 67, DType::i32, 2);
        const LossInputs weights{.class_weights = cast(positive_sample({67}, DType::f64, 3), dtype)};
        const SoftmaxCrossEntropyOptions options{
            .axis = axis, .target = {.ignore = 5, .smoothing = 0.1}, .reduction = {.kind = kind}};
        list.push_back({x, y, options, weights});
        list.push_back({x,
                        y,
                        {.axis = axis, .reduction = {.kind = kind}, .output = {.log_probs = true}},
                        {.element_weights = cast(positive_sample({3, 401}, DType::f64, 4), dtype)}});
        list.push_back({x,
                        cast(softmax(normal_sample(shape, DType::f32, 5), axis), dtype),
                        {.axis = axis, .reduction = {.kind = kind}}});
      }
  list.push_back({normal_sample({3, 100'003}, DType::f32, 6), labels({0, 100'002, 50'000})});
  list.push_back({normal_sample({50'021, 2}, DType::f32, 7), label_sample({50'021}, 2, DType::u8, 8)});
  return list;
}

Bits bits_of(const Input& in) {
  Tape tape;
  tape.watch(in.logits);
  const bool dense = is_floating(in.target.dtype());
  if (dense) tape.watch(in.target);
  const auto outputs = softmax_cross_entropy_outputs(in.logits, in.target, in.options, in.inputs);
  const Tensor upstream = cast(normal_sample(outputs.loss.shape(), DType::f64, 9), outputs.loss.dtype());
  const Gradients gradients = tape.backward(outputs.loss, {.upstream = upstream});
  return {bytes_of(outputs.loss), outputs.log_probs ? bytes_of(outputs.log_probs) : "", bytes_of(outputs.denominator),
          bytes_of(gradients[in.logits]), dense ? bytes_of(gradients[in.target]) : ""};
}

}  // namespace

TEST_CASE("a common offset that is exact changes neither loss nor gradient") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t classes : class_counts) {
      const int64_t rows = classes > 10'000 ? 2 : 7;
      const std::vector<float> values = on_grid(rows * classes, static_cast<uint64_t>(classes));
      const Tensor y = label_sample({rows}, classes, DType::i64, 1);
      const auto at_zero = run(plus(values, 0, {rows, classes}, dtype), y);
      for (const float c : {1e3f, 1e6f, -1e6f}) {
        CAPTURE(classes);
        CAPTURE(c);
        const auto moved = run(plus(values, c, {rows, classes}, dtype), y);
        CHECK(std::abs(moved.loss[0] - at_zero.loss[0]) <= 1e-6);
        CHECK(near(moved.grad, at_zero.grad, 1e-7));
      }
    }
}

TEST_CASE("logits up to the ends of f32 give no NaN") {
  for (const int64_t classes : class_counts) {
    if (classes == 1) continue;
    CAPTURE(classes);
    std::vector<float> values(static_cast<size_t>(classes), -3e38f);
    values[static_cast<size_t>(classes / 2)] = 3e38f;
    const Tensor x = Tensor::from(values, {1, classes});
    const auto right = run(x, labels({classes / 2})), wrong = run(x, labels({0}));
    CHECK(right.loss[0] == 0);
    CHECK(near(right.grad, std::vector<double>(static_cast<size_t>(classes)), 0));
    CHECK(wrong.loss[0] == inf);
    std::vector<double> expected(static_cast<size_t>(classes));
    expected[static_cast<size_t>(classes / 2)] += 1;
    expected[0] -= 1;
    CHECK(near(wrong.grad, expected, 0));
    const auto equal = run(Tensor::full({1, classes}, -3e38), labels({0}));
    CHECK(equal.loss[0] == doctest::Approx(std::log(classes)).epsilon(1e-6));
  }
}

TEST_CASE("masked classes get gradient 0 and change nothing for the others") {
  for (const int64_t classes : class_counts)
    for (const DType dtype : {DType::f32, DType::bf16}) {
      CAPTURE(classes);
      const std::vector<float> values = on_grid(classes, 3);
      std::vector<float> masked;
      for (const float value : values) masked.insert(masked.end(), {value, -HUGE_VALF});
      const auto with = run(plus(masked, 0, {1, 2 * classes}, dtype), labels({0})),
                 without = run(plus(values, 0, {1, classes}, dtype), labels({0}));
      CHECK(with.loss[0] == doctest::Approx(without.loss[0]).epsilon(1e-6));
      for (size_t i = 1; i < with.grad.size(); i += 2) CHECK(with.grad[i] == 0);
    }
}

TEST_CASE("ignored rows are not read, and their gradient is +0, whatever is asked for") {
  const std::vector<double> poison = {not_a_number, inf, -inf};
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const int64_t classes : {1, 3, 33, 1025})
      for (const int64_t axis : {1, 0})
        for (const Kind kind : {Kind::none, Kind::sum, Kind::mean}) {
          const Shape shape = axis == 1 ? Shape{6, classes} : Shape{classes, 6};
          const std::vector<double> good = normal_sample(shape, DType::f64, 4).to_vector<double>();
          std::vector<double> bad = good;
          const auto row = [&](size_t i) { return axis == 1 ? i / static_cast<size_t>(classes) : i % 6; };
          for (size_t i = 0; i < bad.size(); ++i)
            if (row(i) % 2 == 1) bad[i] = poison[i % 3];
          const Tensor y = labels({0, -100, classes - 1, -100, 0, -100});
          const SoftmaxCrossEntropyOptions options{
              .axis = axis, .target = {.ignore = -100, .smoothing = 0.1}, .reduction = {.kind = kind}};
          const auto of_good = run(cast(Tensor::from(good, shape), dtype), y, options),
                     of_bad = run(cast(Tensor::from(bad, shape), dtype), y, options);
          CHECK(of_bad.loss == of_good.loss);
          CHECK(of_bad.grad == of_good.grad);
          for (size_t i = 0; i < bad.size(); ++i)
            if (row(i) % 2 == 1) CHECK(all_plus_zero({of_bad.grad[i]}));
        }
}

TEST_CASE("rows of element weight 0 are not read either") {
  const Tensor x = Tensor::from({NAN, INFINITY, 0, 1}, {2, 2}), e = Tensor::from({0, 1}, {2});
  const auto [loss, grad] = run(x, labels({0, 1}), {}, {.element_weights = e});
  CHECK(loss == run(slice_rows(x, 1, 2), labels({1})).loss);
  CHECK(near({grad[0], grad[1]}, {0, 0}, 0));
}

TEST_CASE("one, two, three and eight threads give the same bits") {
  const int before = threads();
  for (const Input& input : some_inputs()) {
    set_threads(1);
    const Bits one = bits_of(input);
    for (const int count : {2, 3, 8}) {
      set_threads(count);
      CHECK(bits_of(input) == one);
    }
  }
  set_threads(before);
}

TEST_CASE("a replayed call gives the bits of the eager one") {
  const Mode mode(Replay::on);
  for (const Input& input : some_inputs()) {
    const bool dense = is_floating(input.target.dtype());
    Step step([&](const Tensor& x, const Tensor& target) {
      Tape tape;
      tape.watch(x);
      if (dense) tape.watch(target);
      const auto outputs = softmax_cross_entropy_outputs(x, target, input.options, input.inputs);
      const Tensor upstream = Tensor::full(outputs.loss.shape(), 0.5, outputs.loss.dtype());
      const Gradients gradients = tape.backward(outputs.loss, {.upstream = upstream});
      return std::array{outputs.loss, outputs.denominator, gradients[x],
                        dense ? gradients[target] : outputs.denominator};
    });
    const auto bits = [&] {
      std::string all;
      for (const Tensor& result : step(input.logits, input.target)) all += bytes_of(result);
      return all;
    };
    const std::string eager = bits();
    for (int i = 0; i < 3; ++i) CHECK(bits() == eager);
  }
}

TEST_CASE("a replayed call sees new labels, a new label to ignore and a new normalizer, and finds bad labels") {
  const Mode mode(Replay::on);
  const Tensor x = normal_sample({4, 3}, DType::f32, 5);
  Tensor normalizer = Tensor::scalar(4), ignore = Tensor::full({}, 9, DType::i64);
  Step step([&](const Tensor& target) {
    return softmax_cross_entropy(x, target, {}, {.normalizer = normalizer, .ignore = ignore});
  });
  const auto eager = [&](const Tensor& target) {
    return loss_of(x, target, {}, {.normalizer = normalizer, .ignore = ignore});
  };
  for (int i = 0; i < 4; ++i) CHECK(step(labels({0, 1, 2, 9})).item() == eager(labels({0, 1, 2, 9})));
  normalizer.fill(2);
  ignore.fill(1);
  CHECK(step(labels({0, 1, 2, 1})).item() == eager(labels({0, 1, 2, 1})));
  CHECK_THROWS_AS(step(labels({0, 1, 2, 9})), LabelError);
  CHECK(step(labels({0, 2, 2, 1})).item() == eager(labels({0, 2, 2, 1})));
}
