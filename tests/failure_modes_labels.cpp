// What went wrong for users of other systems, chapter labels: out of range, ignored, of many types, padded columns.
// Each case is named after the failure that must not happen here.
#include <doctest/doctest.h>

#include <xent/nn/compat/presets.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
using OutOfRange = SoftmaxCrossEntropyOptions::Parity::OutOfRange;
namespace presets = compat::presets;

namespace {

const Tensor x = normal_sample({4, 4}, DType::f32, 1);

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("F47: a label out of range is an error that names row, label and classes, before anything is written") {
  for (const int64_t bad : {int64_t{4}, int64_t{-1}, INT64_MIN, INT64_MAX, (int64_t{1} << 32) + 1}) {
    const Tensor y = labels({0, 1, 2, bad}), weights = Tensor::ones({4});
    const std::string part = "row 3: label " + std::to_string(bad) + " is not in [0, 4)";
    const Tensor own = x.clone();
    const std::string before = bytes_of(own);
    for (const LossInputs& inputs : {LossInputs{}, LossInputs{.class_weights = weights}}) {
      CHECK(contains(error_of<LabelError>([&] { softmax_cross_entropy(own, y, {}, inputs); }), part));
      CHECK(contains(
          error_of<LabelError>([&] { softmax_cross_entropy(own, y, {.target = {.smoothing = 0.1}}, inputs); }), part));
      CHECK(contains(error_of<LabelError>([&] { softmax_cross_entropy_denominator({4, 4}, y, {}, inputs); }), part));
      CHECK(contains(error_of<LabelError>(
                         [&] { softmax_cross_entropy_grad(Tensor::ones({}), log_softmax(own), y, {}, {}, inputs); }),
                     part));
    }
    CHECK(bytes_of(own) == before);
    Tensor given =
        x.clone();  // its storage may be used for the gradient, but not before the labels are known to be good
    CHECK(contains(error_of<LabelError>([&] { softmax_cross_entropy_with_grad(std::move(given), y); }), part));
  }
}

TEST_CASE("F47: an error leaves no trace: the next call is right") {
  const double right = loss_of(x, labels({0, 1, 2, 3}));
  CHECK_THROWS_AS(softmax_cross_entropy(x, labels({0, 1, 2, 4})), LabelError);
  CHECK(loss_of(x, labels({0, 1, 2, 3})) == right);
}

TEST_CASE("F50: labels are clipped only where a preset says so") {
  const auto clipped = run(x, labels({-1, 9, 1, 4}), presets::mxnet),
             meant = run(x, labels({0, 3, 1, 3}), presets::mxnet);
  CHECK(clipped.loss == meant.loss);
  CHECK(clipped.grad == meant.grad);
  CHECK_THROWS_AS(softmax_cross_entropy(x, labels({-1, 9, 1, 4})), LabelError);
}

TEST_CASE("F50: a label out of range may also make its row NaN, or stand for no target") {
  SoftmaxCrossEntropyOptions options = reduced(Kind::none);
  options.parity.out_of_range = OutOfRange::nan_row;
  const auto [loss, grad] = run(x, labels({0, 7, 2, INT64_MIN}), options);
  const auto good = run(x, labels({0, 1, 2, 3}), options);
  for (const size_t r : {0, 2}) CHECK(loss[r] == good.loss[r]);
  for (const size_t r : {1, 3}) CHECK(std::isnan(loss[r]));
  for (size_t i = 0; i < 16; ++i) CHECK((i / 4 % 2 ? std::isnan(grad[i]) : grad[i] == good.grad[i]));
  options.parity.out_of_range = OutOfRange::no_target;
  CHECK(run(x, labels({0, 7, 2, -1}), options).loss[1] == 0);
}

TEST_CASE("F51: labels that count from 1 are told") {
  CHECK(contains(error_of<LabelError>([] {
                   softmax_cross_entropy(x, labels({1, 2, 3, 4}));
                 }),
                 "labels look 1-based: min 1, max 4"));
}

TEST_CASE("F52, F53: any number can be the label to ignore") {
  const Tensor y = labels({1, 2, 1, 3});
  const double expected = loss_of(slice_rows(x, 0, 3), labels({1, 2, 1}));
  for (const int64_t ignore : {int64_t{-100}, int64_t{255}, int64_t{4}, INT64_MIN, INT64_MAX}) {
    CHECK(loss_of(x, labels({1, 2, 1, ignore}), {.target = {.ignore = ignore}}) == expected);
    for (const Shape& shape : {Shape{}, Shape{1}}) {
      const Tensor scalar = Tensor::from<int64_t>({ignore}, shape);
      CHECK(loss_of(x, labels({1, 2, 1, ignore}), {}, {.ignore = scalar}) == expected);
      CHECK(loss_of(x, labels({1, 2, 1, ignore}), {.target = {.ignore = 1}}, {.ignore = scalar}) == expected);
    }
  }
  CHECK(loss_of(x, Tensor::from<uint8_t>({1, 2, 1, 255}, {4}), {.target = {.ignore = 255}}) == expected);
  CHECK(loss_of(x, Tensor::from<int32_t>({1, 2, 1, INT32_MIN}, {4}), {.target = {.ignore = INT32_MIN}}) == expected);
}

TEST_CASE("F54: a class that is ignored stays in the softmax of the other rows") {
  const auto [loss, grad] = run(x, labels({0, 1, 0, 3}), {.target = {.ignore = 0}});
  const auto two = run(concat({slice_rows(x, 1, 2), slice_rows(x, 3, 4)}), labels({1, 3}));
  CHECK(loss == two.loss);
  CHECK(all_plus_zero({grad.begin(), grad.begin() + 4}));
  CHECK(grad[4] > 0);  // of class 0 in a row with another label
}

TEST_CASE("F55: no label is ignored unless one is given, or a preset has one") {
  const Tensor y = labels({1, -1, 2, 3}), rest = labels({1, 2, 3});
  const Tensor kept = concat({slice_rows(x, 0, 1), slice_rows(x, 2, 4)});
  CHECK_THROWS_AS(softmax_cross_entropy(x, y), LabelError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, presets::torch), LabelError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, presets::onnx), LabelError);
  CHECK(loss_of(x, y, presets::onnxruntime) == loss_of(kept, rest));
  CHECK(loss_of(x, labels({1, -100, 2, 3}), presets::torch) == loss_of(kept, rest));
}

TEST_CASE(
    "F57: weights for another number of classes are an error with both numbers; strange ones only when validated") {
  const Tensor y = labels({0, 1, 2, 3});
  for (const int64_t count : {2, 5, 0}) {
    const std::string text =
        error_of<ShapeError>([&] { softmax_cross_entropy(x, y, {}, {.class_weights = Tensor::ones({count})}); });
    CHECK(contains(text, "[" + std::to_string(count) + "]"));
    CHECK(contains(text, "4"));
  }
  for (const float bad : {-1.0f, std::nanf(""), HUGE_VALF}) {
    const Tensor strange = Tensor::from({1, bad, 1, 1}, {4});
    CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.validate = true}, {.class_weights = strange}), ArgumentError);
    CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.validate = true}, {.element_weights = strange}), ArgumentError);
    CHECK_NOTHROW(softmax_cross_entropy(x, y, {}, {.class_weights = strange}));
  }
  CHECK_NOTHROW(softmax_cross_entropy(x, y, {.validate = true}, {.class_weights = Tensor::ones({4})}));
}

TEST_CASE("F58: labels of u8, i32 and i64 give the same bits, and labels of floats are an error") {
  const auto of_i64 = run(x, Tensor::from<int64_t>({3, 0, 2, 1}, {4}));
  for (const Tensor& y : {Tensor::from<int32_t>({3, 0, 2, 1}, {4}), Tensor::from<uint8_t>({3, 0, 2, 1}, {4})}) {
    CHECK(run(x, y).loss == of_i64.loss);
    CHECK(run(x, y).grad == of_i64.grad);
  }
  CHECK_THROWS_AS(softmax_cross_entropy(x, Tensor::from({3, 0, 2.5f, 1}, {4})), Error);
}

TEST_CASE("F59: labels of shape [rows, 1] are an error that says what to do, and never a loss per pair of rows") {
  const std::string text = error_of<ShapeError>([] {
    softmax_cross_entropy(x, Tensor::zeros({4, 1}, DType::i64), reduced(Kind::none));
  });
  CHECK(contains(text, "[4, 1] must be [4]"));
  CHECK(contains(text, "reshape"));
}

TEST_CASE("F60, F61: what lies around the logits in memory is neither read nor written") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64})
    for (const int64_t offset : {1, 3, 64}) {
      const Tensor values = cast(normal_sample({3, 33}, DType::f32, 2), dtype), y = labels({32, 0, -1});
      Tensor memory = Tensor::full({3 * 33 + 2 * offset}, HUGE_VAL, dtype);
      Tensor inside = memory.view({3, 33}, offset);
      inside.copy_from(values);
      const std::string before = bytes_of(memory);
      const SoftmaxCrossEntropyOptions options{.target = {.ignore = -1}};
      const auto got = run(inside, y, options), want = run(values, y, options);
      CHECK(got.loss == want.loss);
      CHECK(got.grad == want.grad);
      softmax_cross_entropy_with_grad(std::move(inside), y, options);
      CHECK(bytes_of(memory) == before);
    }
}

TEST_CASE("F62: ignored, kept, repeated and boundary labels in one batch are each treated as the reference says") {
  // The generator of loss_properties.cpp forces them too, and counts that it did.
  const Tensor y = labels({0, 3, 3, -7});
  const SoftmaxCrossEntropyOptions options{.target = {.ignore = -7, .smoothing = 0.1}};
  const auto want = reference::loss(x, y, options);
  const auto [loss, grad] = run(x, y, options);
  CHECK(loss[0] == doctest::Approx(want.loss[0].value).epsilon(1e-6));
  for (size_t i = 0; i < 16; ++i) CHECK(std::abs(grad[i] - want.grad_logits[i].value) < 1e-7);
}
