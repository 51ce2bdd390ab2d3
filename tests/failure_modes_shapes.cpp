// What went wrong for users of other systems, chapter shapes and layout: empty batches, axes, ranks, targets.
// Each case is named after the failure that must not happen here.
#include <doctest/doctest.h>

#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
using WhenZero = Reduction::WhenZero;

TEST_CASE("F63: a batch of no rows is legal in every reduction, and so is its gradient") {
  for (const Shape& shape : {Shape{0, 3}, Shape{2, 3, 0}, Shape{0, 3, 4}}) {
    const Tensor x = Tensor::empty(shape);
    const Tensor y = Tensor::empty(shape.rank() == 2 ? Shape{shape[0]} : Shape{shape[0], shape[2]}, DType::i64);
    const SoftmaxCrossEntropyOptions::Target target{.smoothing = 0.1};
    for (const Tensor& t : {y, Tensor::empty(shape)}) {
      CHECK(loss_of(x, t, {.axis = 1}) == 0);
      CHECK(std::isnan(loss_of(x, t, {.axis = 1, .target = target, .reduction = {.when_zero = WhenZero::ieee}})));
      CHECK(loss_of(x, t, {.axis = 1, .reduction = {.when_zero = WhenZero::undivided}}) == 0);
      CHECK(loss_of(x, t, {.axis = 1, .reduction = {.kind = Kind::sum}}) == 0);
      CHECK(softmax_cross_entropy(x, t, {.axis = 1, .reduction = {.kind = Kind::none}}).shape() == y.shape());
      CHECK(run(x, t, {.axis = 1}).grad.empty());
      CHECK(softmax_cross_entropy_with_grad(x, t, {.axis = 1}).grad.shape() == shape);
      CHECK(softmax_cross_entropy_outputs(x, t, {.axis = 1, .output = {.log_probs = true}}).log_probs.shape() == shape);
    }
  }
}

TEST_CASE("F63: the mean over the rows of a sample that has none is a mean over nothing") {
  const Tensor loss =
      softmax_cross_entropy(Tensor::empty({2, 0, 3}), Tensor::empty({2, 0}, DType::i64), reduced(Kind::sample_mean));
  CHECK(loss.shape() == Shape{2});
  CHECK(softmax_cross_entropy(Tensor::empty({0, 2, 3}), Tensor::empty({0, 2}, DType::i64), reduced(Kind::sample_mean))
            .shape() == Shape{0});
}

TEST_CASE("F64: logits without classes are an error") {
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::empty({5, 0}), Tensor::zeros({5}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::empty({0, 0}), Tensor::zeros({0}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::empty({5, 0}), Tensor::empty({5, 0})), ShapeError);
}

TEST_CASE("F65: with one class the loss is 0, and so is the gradient") {
  const auto [loss, grad] =
      run(normal_sample({3, 1}, DType::f32, 1), labels({0, 0, 0}), {.target = {.smoothing = 0.1}});
  CHECK(loss[0] == 0);
  CHECK(near(grad, {0, 0, 0}, 0));
  const Tensor x = Tensor::zeros({3, 1}), y = labels({0, 0, 0});
  CHECK(warnings_of([&] { softmax_cross_entropy(x, y); }).empty());
  CHECK(warnings_of([&] { softmax_cross_entropy(x, y, {.validate = true}); }).find("one class") != std::string::npos);
}

TEST_CASE("F66: logits of one axis are one row, with a scalar label or a distribution") {
  const Tensor x = normal_sample({4}, DType::f32, 2);
  const auto row = run(x, Tensor::full({}, 2, DType::i64)), matrix = run(x.reshape({1, 4}), labels({2}));
  CHECK(row.loss == matrix.loss);
  CHECK(row.grad == matrix.grad);
  CHECK(loss_of(x, Tensor::from({0, 0, 1, 0}, {4})) == doctest::Approx(row.loss[0]).epsilon(1e-6));
  CHECK(softmax_cross_entropy(x, Tensor::full({}, 2, DType::i64), reduced(Kind::none)).shape() == Shape{});
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::scalar(1), Tensor::zeros({}, DType::i64)), ShapeError);
}

TEST_CASE("F67, F68: a view gives the bits of a copy, for logits, labels and weights") {
  const Tensor big = normal_sample({9, 7}, DType::f32, 3), all = label_sample({9}, 7, DType::i64, 4);
  const Tensor x = slice_rows(big, 2, 7), y = slice_rows(all, 2, 7);
  const Tensor e = slice_rows(Tensor::from({9, 1, 2, 3, 4, 5, 9}, {7}), 1, 6);
  const auto of_view = run(x, y, {}, {.element_weights = e});
  const auto of_copy = run(x.clone(), y.clone(), {}, {.element_weights = e.clone()});
  CHECK(of_view.loss == of_copy.loss);
  CHECK(of_view.grad == of_copy.grad);
  // Transposed logits are a copy, or the same bytes with the classes on another axis.
  const auto turned = run(permute(x, {1, 0}), y, {.axis = 0}, {.element_weights = e});
  CHECK(turned.loss[0] == doctest::Approx(of_copy.loss[0]).epsilon(1e-6));
  for (size_t r = 0; r < 5; ++r)
    for (size_t c = 0; c < 7; ++c)
      CHECK(turned.grad[c * 5 + r] == doctest::Approx(of_copy.grad[r * 7 + c]).epsilon(1e-5));
}

TEST_CASE("F69: logits of many axes are a row for each place, on any axis of classes") {
  const Shape shape{2, 3, 4, 5};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (int axis = 0; axis < 4; ++axis) {
      std::vector<int64_t> rows(shape.begin(), shape.end());
      rows.erase(rows.begin() + axis);
      const Tensor x = cast(normal_sample(shape, DType::f64, 5), dtype);
      const Tensor y = label_sample(Shape(std::span<const int64_t>(rows)), shape[axis], DType::i64, 6);
      for (const Kind kind : {Kind::none, Kind::mean}) {
        const SoftmaxCrossEntropyOptions options{
            .axis = axis, .target = {.smoothing = 0.1}, .reduction = {.kind = kind}};
        const auto want = reference::loss(x, y, options);
        Tape tape;
        tape.watch(x);
        const Tensor loss = softmax_cross_entropy(x, y, options);
        CHECK(reference::difference(loss, want.loss, reference::eps_of(dtype)) == "");
        const Tensor grad = tape.backward(loss, {.upstream = Tensor::ones(loss.shape(), loss.dtype())})[x];
        CHECK(reference::difference(grad, want.grad_logits, reference::eps_of(dtype)) == "");
        if (kind == Kind::none) CHECK(loss.shape() == y.shape());
      }
    }
}

TEST_CASE("F70: an axis that is none, and a batch axis that is none, are errors") {
  const Tensor x = Tensor::zeros({2, 3, 4, 5}), y = Tensor::zeros({2, 3, 4}, DType::i64);
  for (const int64_t axis : {int64_t{-5}, int64_t{4}, INT64_MAX, INT64_MIN})
    CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.axis = axis}), ShapeError);
  for (const int axis : {-5, 4, INT32_MAX, INT32_MIN, 3, -1}) {
    CAPTURE(axis);
    CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.reduction = {.kind = Kind::sample_mean, .batch_axis = axis}}), Error);
  }
  CHECK(softmax_cross_entropy(x, y, {.reduction = {.kind = Kind::sample_mean, .batch_axis = -2}}).shape() == Shape{4});
}

TEST_CASE("F72: indices of the logits' shape are an error and not a distribution, and the other way round") {
  const Tensor x = Tensor::zeros({3, 3});
  CHECK_THROWS_AS(softmax_cross_entropy(x, Tensor::zeros({3, 3}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, Tensor::zeros({3})), Error);
  CHECK_THROWS_AS(softmax_cross_entropy(x, Tensor::zeros({3, 2})), ShapeError);
}

TEST_CASE("shapes and dtypes of what comes with logits and target are checked") {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({3}, DType::i64);
  const auto refuses = [&](const LossInputs& inputs) {
    const std::string text = error_of<Error>([&] { softmax_cross_entropy(x, y, {}, inputs); });
    return text.starts_with("softmax_cross_entropy");
  };
  CHECK(refuses({.class_weights = Tensor::ones({4, 1})}));
  CHECK(refuses({.class_weights = Tensor::ones({4}, DType::i64)}));
  CHECK(refuses({.element_weights = Tensor::ones({4})}));
  CHECK(refuses({.element_weights = Tensor::ones({3, 1})}));
  CHECK(refuses({.element_weights = Tensor::ones({3}, DType::i64)}));
  CHECK(refuses({.normalizer = Tensor::ones({1})}));
  CHECK(refuses({.normalizer = Tensor::ones({}, DType::f16)}));
  CHECK(refuses({.ignore = Tensor::zeros({2}, DType::i64)}));
  CHECK(refuses({.ignore = Tensor::zeros({}, DType::i32)}));
  CHECK(refuses({.grad_addend = Tensor::zeros({4, 3})}));
  CHECK(refuses({.grad_addend = Tensor::zeros({3, 4}, DType::i64)}));
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, reduced(Kind::sum), {.normalizer = Tensor::ones({})}), ArgumentError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, x, {.target = {.ignore = 0}}), ArgumentError);
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::zeros({3, 4}, DType::i64), y), DTypeError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.output = {.dtype = DType::i64}}), DTypeError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, Tensor::zeros({3, 4}),
                                        {.reduction = {.denominator = Reduction::Denominator::label_weights}}),
                  ArgumentError);
  CHECK_THROWS_AS(softmax_cross_entropy_grad(Tensor::ones({3}), x, y, Tensor::zeros({3, 2})), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy_grad(Tensor::ones({}), x, y, Tensor::zeros({2, 3})), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy_grad(Tensor::ones({}), x, y, Tensor::zeros({3, 2}, DType::f64)), Error);
  CHECK_THROWS_AS(softmax_cross_entropy_grad(Tensor::ones({}, DType::i64), x, y, Tensor::zeros({3, 2})), DTypeError);
}

TEST_CASE("enumerators that are none are errors and not undefined behaviour") {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({3}, DType::i64);
  using Parity = SoftmaxCrossEntropyOptions::Parity;
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.reduction = {.kind = static_cast<Kind>(9)}}), ArgumentError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.reduction = {.denominator = static_cast<Reduction::Denominator>(9)}}),
                  ArgumentError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.reduction = {.when_zero = static_cast<WhenZero>(9)}}), ArgumentError);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, {.parity = {.out_of_range = static_cast<Parity::OutOfRange>(9)}}),
                  ArgumentError);
}
