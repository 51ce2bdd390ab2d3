// compat::torch::cross_entropy does what PyTorch's does. Numbers with more than four digits are PyTorch's own.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/nn/compat/torch.h>
#include <xent/xent.h>

#include "compat_checks.h"

using namespace xent;
using compat::torch::cross_entropy;

namespace {

Tensor six_rows(DType dtype = DType::f32) {
  return cast(Tensor::from({1.4494741f,  -1.4403604f,  -0.017466206f, -0.8691238f,  1.5044899f,  -0.958366f,
                            1.0047252f,  -0.41120878f, 1.7160853f,    -0.17579016f, -0.5503886f, -1.0296223f,
                            0.21471739f, -1.3877094f,  -1.2509022f,   -0.64190215f, -1.217971f,  -0.9004504f,
                            -0.6529776f, -0.74566555f, 1.057349f,     -0.3105107f,  1.041525f,   0.40350989f},
                           {6, 4}),
              dtype);
}
Tensor six_labels() { return Tensor::from<int64_t>({0, 2, -100, 3, 2, 0}, {6}); }
Tensor four_weights() { return Tensor::from({0.5f, 2, 1, 0.25f}, {4}); }

Tensor smoothed(const Tensor& input, const Tensor& target, const Tensor& weight, double smoothing,
                std::string_view reduction = "mean") {
  return cross_entropy(input, target, weight, {}, -100, {}, reduction, smoothing);
}
Tensor reduced(const Tensor& input, const Tensor& target, std::string_view reduction) {
  return cross_entropy(input, target, {}, {}, -100, {}, reduction);
}

// The gradient of x, for the same gradient at every element of the loss.
template <class F>
Tensor gradient(const Tensor& x, F&& f, double upstream = 1) {
  Tape tape;
  tape.watch(x);
  const Tensor loss = f();
  return tape.backward(loss, {.upstream = Tensor::full(loss.shape(), upstream, loss.dtype())})[x];
}

}  // namespace

TEST_CASE("classes with weights and an ignored row: value and gradient are PyTorch's") {
  const Tensor x = six_rows();
  check_near(cross_entropy(x, six_labels(), four_weights()), {1.0246136});
  const Tensor dx = gradient(
      x, [&] { return cross_entropy(x, six_labels(), four_weights()); }, 0.7);
  check_near(slice_rows(dx, 0, 2),
             {-0.029915173, 0.004323275, 0.017937744, 0.0076541635, 0.1171139, 0.009977088, -0.14433472, 0.017243726});
  check_near(slice_rows(dx, 2, 3), {0, 0, 0, 0});
}

TEST_CASE("smoothing with class weights: the mean divides by the weights of the labels alone") {
  const Tensor x = six_rows();
  check_near(smoothed(x, six_labels(), four_weights(), 0.1), {1.2021136});
  check_near(slice_rows(gradient(x, [&] { return smoothed(x, six_labels(), four_weights(), 0.1); }), 0, 1),
             {-0.021475352, -0.0086680995, 0.020175258, 0.009968213});
}

TEST_CASE("smoothing with class weights moves the optimum: weights 0.1 and 0.9 prefer 0.85 to 1 (F10)") {
  const Tensor target = Tensor::from({1, 0}, {1, 2});
  const auto loss = [&](int twentieths) {
    const auto p = static_cast<float>(twentieths) / 20;
    return 10 * smoothed(Tensor::from({p, 1 - p}, {1, 2}), target, Tensor::from({0.1f, 0.9f}, {2}), 0.1).item();
  };
  CHECK(loss(0) == doctest::Approx(1.38857).epsilon(1e-5));
  CHECK(loss(17) == doctest::Approx(0.87946).epsilon(1e-5));
  CHECK(loss(20) == doctest::Approx(0.88857).epsilon(1e-5));
}

TEST_CASE("a mean over ignored rows only is NaN, its gradient 0; a sum is 0, none are zeros") {
  const Tensor x = six_rows(), ignored = Tensor::full({6}, -100, DType::i64);
  check_near(reduced(x, ignored, "mean"), {not_a_number});
  check_near(reduced(x, ignored, "sum"), {0});
  check_near(reduced(x, ignored, "none"), {0, 0, 0, 0, 0, 0});
  for (const double smoothing : {0.0, 0.1, 1.0})
    check_near(gradient(x, [&] { return smoothed(x, ignored, four_weights(), smoothing); }),
               std::vector<double>(24, 0));
}

TEST_CASE("labels of weight 0 only: the mean is NaN with smoothing too, and so is the gradient") {
  const Tensor x = six_rows(), zeros = Tensor::full({6}, 0, DType::i64), weight = Tensor::from({0, 1, 1, 1}, {4});
  for (const double smoothing : {0.0, 0.1}) {
    check_near(smoothed(x, zeros, weight, smoothing), {not_a_number});
    check_near(gradient(x, [&] { return smoothed(x, zeros, weight, smoothing); }),
               std::vector<double>(24, not_a_number));
  }
}

TEST_CASE("a weight of 0 times an infinite loss is NaN, as is a smoothing of 1 where the label's loss is infinite") {
  const Tensor x = Tensor::from({-infinity, 0, 1}, {1, 3}), label = Tensor::from<int64_t>({0}, {1});
  check_near(reduced(x, label, "sum"), {infinity});
  check_near(cross_entropy(x, label, Tensor::from({0, 1, 1}, {3}), {}, -100, {}, "sum"), {not_a_number});
  check_near(smoothed(x, label, {}, 0.9, "sum"), {infinity});
  check_near(smoothed(x, label, {}, 1, "sum"), {not_a_number});
  check_near(smoothed(x, Tensor::from<int64_t>({1}, {1}), {}, 1, "sum"), {infinity});
}

TEST_CASE("no rows: the mean is NaN, the sum 0, none is empty, and the gradient has the input's shape") {
  for (const Shape& shape : {Shape{0, 4}, Shape{0, 4, 5}}) {
    const Tensor x = Tensor::zeros(shape),
                 labels = Tensor::zeros(shape.rank() == 2 ? Shape{0} : Shape{0, 5}, DType::i64);
    check_near(reduced(x, labels, "mean"), {not_a_number});
    check_near(reduced(x, labels, "sum"), {0});
    CHECK(reduced(x, labels, "none").shape() == labels.shape());
    check_near(reduced(x, x, "mean"), {not_a_number});
    CHECK(gradient(x, [&] { return reduced(x, labels, "mean"); }).shape() == shape);
  }
}

TEST_CASE("probabilities: the mean divides by the rows, and the target gets a gradient") {
  const Tensor x = Tensor::from({0, std::log(3.0f)}, {1, 2}), q = Tensor::from({0.5f, 0.25f}, {1, 2});
  const double first = std::log(4.0), second = std::log(4.0 / 3);  // minus the logarithms of 1/4 and 3/4
  check_near(cross_entropy(x, q), {0.5 * first + 0.25 * second});
  check_near(gradient(q, [&] { return cross_entropy(x, q, Tensor::from({2, 1}, {2})); }), {2 * first, second});
  check_near(gradient(q, [&] { return smoothed(x, q, {}, 0.5); }), {0.5 * first, 0.5 * second});
  check_near(gradient(x, [&] { return cross_entropy(x, q); }), {0.75 * 0.25 - 0.5, 0.75 * 0.75 - 0.25});
}

TEST_CASE("a probability of 0 times a logarithm of -infinity is NaN") {
  const Tensor x = Tensor::from({-infinity, 0, 1}, {1, 3});
  check_near(cross_entropy(x, Tensor::from({0, 1, 0}, {1, 3})), {not_a_number});
  check_near(cross_entropy(x, Tensor::from<int64_t>({1}, {1})), {1.3132616});
}

TEST_CASE("a vector is one row: its target is a scalar, or probabilities") {
  const Tensor x = Tensor::from({0, std::log(3.0f)}, {2});
  const Tensor loss = cross_entropy(x, Tensor::scalar(1, DType::i64));
  CHECK(loss.shape() == Shape{});
  check_near(loss, {std::log(4.0 / 3)});
  CHECK(reduced(x, Tensor::from({0, 1}, {2}), "none").shape() == Shape{});
  check_near(cross_entropy(x, Tensor::from({0, 1}, {2})), {std::log(4.0 / 3)});
  check_near(cross_entropy(x, Tensor::scalar(-100, DType::i64)), {not_a_number});
}

TEST_CASE("the loss has the input's dtype; with probabilities, the one that all have in common") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    CHECK(cross_entropy(six_rows(dtype), six_labels()).dtype() == dtype);
    CHECK(smoothed(six_rows(dtype), six_labels(), {}, 0.1).dtype() == dtype);
  }
  const auto common = [](DType input, DType target, DType weight) {
    const Tensor x = six_rows(input), q = cast(Tensor::full({6, 4}, 0.25), target);
    return cross_entropy(x, q, cast(four_weights(), weight)).dtype();
  };
  CHECK(common(DType::f16, DType::bf16, DType::f16) == DType::f32);
  CHECK(common(DType::f16, DType::f16, DType::f16) == DType::f16);
  CHECK(common(DType::f32, DType::f64, DType::f32) == DType::f64);
  CHECK(common(DType::f32, DType::f16, DType::f64) == DType::f64);
  const Tensor x = six_rows(), q = cast(Tensor::full({6, 4}, 0.25), DType::f64);
  CHECK(gradient(x, [&] { return cross_entropy(x, q); }).dtype() == DType::f32);
  CHECK(gradient(q, [&] { return cross_entropy(x, q); }).dtype() == DType::f64);
}

TEST_CASE("smoothing is one op, rounded once, where torch's two parts are no other number") {
  const Tensor x = six_rows(DType::f16);
  Tape tape;
  tape.watch(x);
  const Tensor loss = smoothed(x, six_labels(), {}, 0.1);
  CHECK(tape.size() == 1);
  CHECK(tape.backward(loss)[x].dtype() == DType::f16);
}

TEST_CASE("smoothing below 0, or NaN, is none at all") {
  const double plain = cross_entropy(six_rows(), six_labels()).item();
  CHECK(smoothed(six_rows(), six_labels(), {}, -0.1).item() == plain);
  CHECK(smoothed(six_rows(), six_labels(), {}, not_a_number).item() == plain);
}

TEST_CASE("size_average and reduce warn, and override the reduction") {
  const auto run = [](std::optional<bool> size_average, std::optional<bool> reduce) {
    Warnings warnings;
    const Tensor loss = cross_entropy(six_rows(), six_labels(), {}, size_average, -100, reduce, "nonsense");
    REQUIRE(warnings.texts.size() == 1);
    for (const std::string reduction : {"none", "mean", "sum"})
      if (numbers(loss) == numbers(reduced(six_rows(), six_labels(), reduction))) {
        CHECK(warnings.texts[0] ==
              "size_average and reduce args will be deprecated, please use reduction='" + reduction + "' instead.");
        return reduction;
      }
    return std::string("?");
  };
  CHECK(run(true, true) == "mean");
  CHECK(run({}, true) == "mean");
  CHECK(run(false, {}) == "sum");
  CHECK(run(false, false) == "none");
  CHECK(run({}, false) == "none");
}

TEST_CASE("elementwise_mean warns and is the mean; other reductions are refused; plain calls do not warn") {
  Warnings warnings;
  const double mean = cross_entropy(six_rows(), six_labels()).item();
  CHECK(warnings.texts.empty());
  CHECK(reduced(six_rows(), six_labels(), "elementwise_mean").item() == mean);
  CHECK(warnings.texts.size() == 1);
  CHECK(refusal([] { reduced(six_rows(), six_labels(), "avg"); }) ==
        "reduction: ValueError: avg is not a valid value for reduction");
}

TEST_CASE("labels: any ignored number, 64 bits and bytes; out of range is a LabelError") {
  const Tensor x = Tensor::from({0, 0, 0, 1, 2, 3}, {2, 3});
  const auto ignoring = [&](int64_t ignored) {
    return cross_entropy(x, Tensor::from<int64_t>({ignored, 1}, {2}), {}, {}, ignored).item();
  };
  for (const int64_t ignored : {int64_t{2}, int64_t{255}, int64_t{3}, INT64_MIN, INT64_MAX})
    CHECK(ignoring(ignored) == ignoring(-100));
  CHECK(cross_entropy(x, Tensor::from<uint8_t>({255, 1}, {2}), {}, {}, 255).item() == ignoring(255));
  CHECK_THROWS_AS(cross_entropy(x, Tensor::from<int64_t>({0, 3}, {2})), LabelError);
  CHECK_THROWS_AS(cross_entropy(x, Tensor::from<int64_t>({0, -1}, {2})), LabelError);
}

TEST_CASE("what PyTorch refuses is refused in its words") {
  const auto refused = [](const Shape& input, const Tensor& target, const Tensor& weight = {},
                          int64_t ignore_index = -100, double smoothing = 0) {
    return refusal(
        [&] { cross_entropy(Tensor::zeros(input), target, weight, {}, ignore_index, {}, "mean", smoothing); });
  };
  const auto labels = [](const Shape& shape, DType dtype = DType::i64) { return Tensor::zeros(shape, dtype); };
  const Tensor three = Tensor::ones({3});
  CHECK(refused({6, 4}, labels({5})) ==
        "shape: ValueError: Expected input batch_size (6) to match target batch_size (5).");
  CHECK(refused({2, 3, 4}, labels({2})) == "shape: RuntimeError: Expected target size [2, 4], got [2]");
  CHECK(refused({6, 4}, labels({6, 3})) ==
        "shape: RuntimeError: 0D or 1D target tensor expected, multi-target not supported");
  CHECK(refused({5}, labels({1})) == "shape: RuntimeError: size mismatch (got input: [5], target: [1])");
  CHECK(refused({2, 3, 4, 5}, labels({2})).starts_with("shape: RuntimeError: only batches of spatial targets"));
  CHECK(refused({2, 3, 4, 5}, labels({2, 4, 4})).starts_with("shape: RuntimeError: size mismatch"));
  CHECK(refused({6, 4}, labels({})).starts_with("shape: "));  // there an extent is read that is none
  CHECK(refused({}, labels({3})).starts_with("rank: IndexError"));
  CHECK(refused({6, 4}, labels({6}, DType::i32)) ==
        "label_dtype: RuntimeError: expected target dtype to be Long or Byte, but got Int");
  CHECK(refused({6, 4}, labels({6}, DType::f32)) ==
        "label_dtype: RuntimeError: expected target dtype to be Long or Byte, but got Float");
  CHECK(refused({2, 3, 4}, labels({2, 4}, DType::u8)) ==
        "label_dtype: RuntimeError: expected scalar type Long but found Byte");
  CHECK(refused({6, 4}, labels({6, 4})) ==
        "target_dtype: RuntimeError: Expected floating point type for target with class probabilities, got Long");
  CHECK(refused({6, 4}, labels({6}), three) ==
        "weight_shape: RuntimeError: weight tensor should be defined either for all 4 classes or no classes but got "
        "weight tensor of shape: [3]");
  CHECK(refused({6, 4}, Tensor::ones({6, 4}), three).starts_with("weight_shape: RuntimeError: cross_entropy: weight"));
  CHECK(refused({2, 4, 5}, labels({2, 5}), three) ==
        "weight_shape: RuntimeError: weight tensor should be defined either for all or no classes");
  CHECK(refused({2, 3, 5}, labels({2, 5}), Tensor::ones({1, 3})) == "accepted");
  CHECK(refused({6, 3}, labels({6}), Tensor::ones({3}, DType::f64)) ==
        "type: RuntimeError: expected scalar type Float but found Double");
  CHECK(refused({6, 4}, Tensor::ones({6, 4}), {}, 3) ==
        "ignore_index: RuntimeError: ignore_index is not supported for floating point target");
  for (const Tensor& target : {labels({6}), Tensor::ones({6, 4})})
    CHECK(refused({6, 4}, target, {}, -100, 1.5) ==
          "smoothing: RuntimeError: label_smoothing must be between 0.0 and 1.0. Got: 1.5");
  CHECK(refused({6, 4}, labels({5}), {}, -100, 1.5).starts_with("smoothing: "));  // before the shapes
  CHECK_THROWS_AS(cross_entropy({}, labels({6})), ArgumentError);
}
