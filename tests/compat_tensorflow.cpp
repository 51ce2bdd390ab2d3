// tf.losses beyond the golden vectors: weights, words of errors, and the dtypes on the way.
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include <xent/core/tape.h>
#include <xent/nn/compat/tensorflow.h>
#include <xent/ops/ops.h>

using namespace xent;
namespace losses = compat::tensorflow::losses;
using compat::Cause;

namespace {

const Tensor logits = Tensor::from({0, 1, 2, 0, -1, 3, 2, 2, 2}, {3, 3});
const Tensor labels = Tensor::from<int64_t>({2, 0, 1}, {3});
const Tensor onehot = Tensor::from({0, 0, 1, 1, 0, 0, 0, 1, 0}, {3, 3});

// -log softmax(x)[label] of a row of three.
double row_loss(double a, double b, double c, double picked) {
  return std::log(std::exp(a) + std::exp(b) + std::exp(c)) - picked;
}
const double row0 = row_loss(0, 1, 2, 2), row1 = row_loss(0, -1, 3, 0), row2 = row_loss(2, 2, 2, 2);

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-6); }

template <class F>
void check_refused(Cause cause, const std::string& type, const std::string& words, F&& call) {
  try {
    call();
    FAIL("not refused: ", words);
  } catch (const compat::Refused& refused) {
    CHECK(refused.cause() == cause);
    CHECK(refused.type() == type);
    CHECK_MESSAGE(std::string(refused.what()).find(words) != std::string::npos, refused.what());
  }
}

Tensor none_of(Tensor rows, losses::Weights weights = 1.0) {
  return losses::sparse_softmax_cross_entropy(labels.slice(0, rows.shape()[0]), rows, weights, {}, {},
                                              losses::Reduction::NONE);
}

}  // namespace

TEST_CASE("the default divides by the number of weights that are not 0, a mean by their sum") {
  const Tensor weights = Tensor::from({2, 0, 0.5}, {3});
  const double total = 2 * row0 + 0.5 * row2;
  CHECK(losses::softmax_cross_entropy(onehot, logits).item() == near((row0 + row1 + row2) / 3));
  CHECK(losses::softmax_cross_entropy(onehot, logits, weights).item() == near(total / 2));
  CHECK(losses::sparse_softmax_cross_entropy(labels, logits, weights).item() == near(total / 2));
  const auto reduced = [&](std::string_view reduction) {
    return losses::sparse_softmax_cross_entropy(labels, logits, weights, {}, {}, reduction);
  };
  CHECK(reduced(losses::Reduction::SUM).item() == near(total));
  CHECK(reduced(losses::Reduction::MEAN).item() == near(total / 2.5));
  CHECK(reduced(losses::Reduction::NONE).shape() == Shape{3});
  CHECK(losses::sparse_softmax_cross_entropy(labels, logits, -1.0, {}, {}, losses::Reduction::MEAN).item() == 0);
  CHECK(losses::sparse_softmax_cross_entropy(labels, logits, 0.0).item() == 0);
}

TEST_CASE("weights get gradients through the loss and, in a mean, through the denominator") {
  const Tensor weights = Tensor::from({2, 1, 0.5}, {3});
  Tape tape;
  tape.watch(weights);
  const Tensor loss = losses::sparse_softmax_cross_entropy(labels, logits, weights, {}, {}, losses::Reduction::MEAN);
  const std::vector<float> gradient = tape.backward(loss)[weights].to_vector<float>();
  const double mean = (2 * row0 + row1 + 0.5 * row2) / 3.5;
  for (const auto& [i, row] : {std::pair{0, row0}, std::pair{1, row1}, std::pair{2, row2}})
    CHECK(gradient[static_cast<size_t>(i)] == near((row - mean) / 3.5));
}

TEST_CASE("a weight of any dtype counts as f32, and one stretched over an axis gets the sum of the gradients") {
  const Tensor scores = logits.reshape({1, 3, 3}), index = labels.reshape({1, 3});
  const Tensor weight = Tensor::from<double>({3}, {1, 1});
  Tape tape;
  tape.watch(weight);
  const Tensor loss = losses::sparse_softmax_cross_entropy(index, scores, weight, {}, {}, losses::Reduction::SUM);
  CHECK(loss.item() == near(3 * (row0 + row1 + row2)));
  const Tensor gradient = tape.backward(loss)[weight];
  CHECK(gradient.dtype() == DType::f64);
  CHECK(gradient.item() == near(row0 + row1 + row2));
  CHECK(losses::softmax_cross_entropy(onehot, logits, Tensor::from<int64_t>({3, 0, 0}, {3})).item() == near(3 * row0));
}

TEST_CASE("labels are constants") {
  Tape tape;
  tape.watch(onehot);
  tape.watch(logits);
  const Gradients gradients = tape.backward(losses::softmax_cross_entropy(onehot, logits));
  CHECK(!gradients.contains(onehot));
  CHECK(gradients.contains(logits));
}

TEST_CASE("labels may have any dtype, and need not sum to 1: the gradient is softmax - label all the same") {
  const Tensor doubled = Tensor::from<int64_t>({0, 0, 2}, {1, 3}), row = logits.slice(0, 1);
  Tape tape;
  tape.watch(row);
  const Tensor loss = losses::softmax_cross_entropy(doubled, row);
  CHECK(loss.item() == near(2 * row0));
  CHECK(tape.backward(loss)[row].to_vector<float>()[2] == near(std::exp(-row0) - 2));
}

TEST_CASE("smoothing counts the classes on axis 1, also where they lie on another one; below 0 it is nothing") {
  const double eps = 0.3;
  const auto smoothed = [&](double off, double row, double sum_of_losses) {
    return (1 - eps) * row + off * sum_of_losses;
  };
  const double all = row_loss(0, 1, 2, 0) + row_loss(0, 1, 2, 1) + row0;
  const Tensor label = onehot.slice(0, 1), row = logits.slice(0, 1);
  CHECK(losses::softmax_cross_entropy(label, row, 1.0, eps).item() == near(smoothed(eps / 3, row0, all)));
  CHECK(losses::softmax_cross_entropy(label.reshape({1, 1, 3}), row.reshape({1, 1, 3}), 1.0, eps).item() ==
        near(smoothed(eps, row0, all)));
  CHECK(losses::softmax_cross_entropy(label, row, 1.0, -1).item() == near(row0));
  CHECK(losses::softmax_cross_entropy(label, row, 1.0, NAN).item() == near(row0));
  const Tensor flat = row.reshape({3});
  CHECK(losses::softmax_cross_entropy(label.reshape({3}), flat).item() == near(row0));
  check_refused(Cause::rank, "ValueError", "slice index 1 of dimension 0 out of bounds",
                [&] { losses::softmax_cross_entropy(label.reshape({3}), flat, 1.0, eps); });
}

TEST_CASE("a row's loss is of the logits' dtype, weights and sums are f32, the result is of the logits' dtype") {
  // 120000 is beyond f16, though its weighted mean is not; 1e39 is beyond f32.
  const Tensor wide = Tensor::from({60000, -60000, 0, 0, -1, 3}, {2, 3});
  const Tensor f16 = cast(wide, DType::f16), f64 = Tensor::from<double>({1e39, 0, 0}, {1, 3});
  const Tensor index = Tensor::from<int64_t>({1, 0}, {2});
  CHECK(losses::sparse_softmax_cross_entropy(index, wide, 0.25).item() == near((120000 + row1) / 8));
  const Tensor loss = losses::sparse_softmax_cross_entropy(index, f16, 0.25);
  CHECK(loss.dtype() == DType::f16);
  CHECK(loss.item() == INFINITY);
  CHECK(none_of(f64).dtype() == DType::f64);
  CHECK(losses::sparse_softmax_cross_entropy(index.slice(0, 1), f64, 1e-10).item() == INFINITY);
  CHECK(none_of(cast(logits, DType::f64)).to_vector<double>()[1] == near(row1));
  CHECK(none_of(cast(logits, DType::f64)).to_vector<double>()[1] ==
        static_cast<float>(none_of(cast(logits, DType::f64)).to_vector<double>()[1]));
}

TEST_CASE("logits of f16 and f64 get gradients of their dtype, with weights and all reductions") {
  const Tensor weights = Tensor::from({2, 0, 0.5}, {3});
  for (const std::string_view reduction :
       {losses::Reduction::SUM, losses::Reduction::MEAN, losses::Reduction::SUM_BY_NONZERO_WEIGHTS}) {
    const auto gradient = [&](DType dtype) {
      const Tensor x = cast(logits, dtype);
      Tape tape;
      tape.watch(x);
      const Tensor loss = losses::softmax_cross_entropy(onehot, x, weights, 0.1, {}, {}, reduction);
      const Tensor dx = tape.backward(loss)[x];
      CHECK(dx.dtype() == dtype);
      return cast(dx, DType::f32).to_vector<float>();
    };
    const auto f32 = gradient(DType::f32), f64 = gradient(DType::f64), f16 = gradient(DType::f16);
    for (size_t i = 0; i < f32.size(); ++i) {
      CHECK(f64[i] == doctest::Approx(f32[i]).epsilon(1e-6));
      CHECK(f16[i] == doctest::Approx(f32[i]).epsilon(4e-3));
    }
  }
}

TEST_CASE("a weight of 0 does not mask a loss that is infinite, unless the denominator is 0") {
  const Tensor masked = Tensor::from({0, -INFINITY, 1, 0, -1, 3}, {2, 3}), index = Tensor::from<int64_t>({1, 0}, {2});
  CHECK(std::isnan(losses::sparse_softmax_cross_entropy(index, masked, Tensor::from({0, 1}, {2})).item()));
  CHECK(losses::sparse_softmax_cross_entropy(index, masked, Tensor::from({0, 0}, {2})).item() == 0);
}

TEST_CASE("a mean over nothing has a gradient of 0 times the row's, which is NaN where the row is") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16})
    for (const std::string_view reduction : {losses::Reduction::MEAN, losses::Reduction::SUM_BY_NONZERO_WEIGHTS}) {
      const Tensor x = cast(Tensor::from({0, INFINITY, 1, 0, -1, 3}, {2, 3}), dtype);
      const Tensor weights = Tensor::zeros({2}), index = labels.slice(0, 2);
      Tape tape;
      tape.watch(x);
      tape.watch(weights);
      const Tensor loss = losses::sparse_softmax_cross_entropy(index, x, weights, {}, {}, reduction);
      CHECK(loss.item() == 0);
      const Gradients gradients = tape.backward(loss);
      const std::vector<float> dx = cast(gradients[x], DType::f32).to_vector<float>();
      CHECK(std::isnan(dx[0]));
      CHECK(dx[3] == 0);
      CHECK(std::isnan(gradients[weights].to_vector<float>()[0]));
      CHECK(gradients[weights].to_vector<float>()[1] == 0);
    }
  // A negative sum of weights is divided by before it is guarded.
  const Tensor row = Tensor::from({0, INFINITY, 1, 0, -1, 3}, {2, 3}), negative = Tensor::from({-2, 1}, {2});
  Tape tape;
  tape.watch(negative);
  const Tensor index = labels.slice(0, 2);
  const Tensor loss = losses::sparse_softmax_cross_entropy(index, row, negative, {}, {}, losses::Reduction::MEAN);
  CHECK(loss.item() == 0);
  CHECK(std::isnan(tape.backward(loss)[negative].to_vector<float>()[1]));
}

TEST_CASE("no rows: 0, or no losses; no classes: refused") {
  const Tensor none = Tensor::zeros({0, 3}), index = Tensor::zeros({0}, DType::i32);
  CHECK(losses::softmax_cross_entropy(none, none).item() == 0);
  CHECK(losses::sparse_softmax_cross_entropy(index, none, 1.0, {}, {}, losses::Reduction::MEAN).item() == 0);
  CHECK(none_of(none).shape() == Shape{0});
  check_refused(Cause::shape, "InvalidArgumentError", "Must have at least one class, but got logits shape [3, 0]", [] {
    none_of(Tensor::zeros({3, 0}));
  });
}

TEST_CASE("a last axis of extent 1 too many is taken away, by the sparse loss only") {
  const double total = 2 * row0 + row1 + 0.5 * row2;
  const Tensor weights = Tensor::from({2, 1, 0.5}, {3, 1}), column = labels.reshape({3, 1});
  const auto sum_of = [&](const Tensor& index, const Tensor& scores, const Tensor& each) {
    return losses::sparse_softmax_cross_entropy(index, scores, each, {}, {}, losses::Reduction::SUM).item();
  };
  CHECK(sum_of(column, logits, weights) == near(total));
  CHECK(sum_of(labels, logits, weights) == near(total));
  CHECK(sum_of(column, logits, weights.reshape({3})) == near(total));
  CHECK(sum_of(labels, logits.reshape({3, 3, 1}), weights) == near(total));
  check_refused(Cause::weight_shape, "ValueError",
                "values.rank=1. weights.rank=2. values.shape=(3,). weights.shape=(3, 1).",
                [&] { losses::softmax_cross_entropy(onehot, logits, weights); });
  check_refused(Cause::rank, "ValueError", "Can not squeeze dim[1], expected a dimension of 1, got 3", [&] {
    sum_of(Tensor::zeros({3, 3}, DType::i64), logits, weights);
  });
  check_refused(Cause::weight_shape, "ValueError", "Can not squeeze dim[1]", [&] { sum_of(labels, logits, onehot); });
  check_refused(Cause::rank, "ValueError", "Logits cannot be scalars",
                [&] { losses::softmax_cross_entropy(Tensor::scalar(1), Tensor::scalar(1)); });
}

TEST_CASE("of three axes and more the sparse loss compares the number of rows, and has the labels' shape") {
  const Tensor scores = logits.reshape({1, 3, 3}), index = labels.reshape({3, 1});
  const Tensor rows = losses::sparse_softmax_cross_entropy(index, scores, 1.0, {}, {}, losses::Reduction::NONE);
  CHECK(rows.shape() == Shape{3, 1});
  CHECK(rows.to_vector<float>()[2] == near(row2));
  check_refused(Cause::shape, "InvalidArgumentError", "logits and labels must have the same first dimension", [&] {
    losses::sparse_softmax_cross_entropy(labels.slice(0, 2).reshape({1, 2}), scores);
  });
  check_refused(Cause::shape, "ValueError", "Dimensions must be equal, but are 3 and 2",
                [&] { losses::sparse_softmax_cross_entropy(labels.slice(0, 2), logits); });
}

TEST_CASE("what the original refuses is refused in its words") {
  const auto dense = [](losses::Weights weights, std::string_view reduction = losses::Reduction::SUM) {
    return losses::softmax_cross_entropy(onehot, logits, weights, 0, {}, {}, reduction);
  };
  check_refused(Cause::reduction, "ValueError", "Invalid ReductionKey mean.", [&] { dense(1.0, "mean"); });
  check_refused(Cause::weights_none, "ValueError", "None values not supported.", [&] { dense(std::nullopt); });
  check_refused(Cause::weights_none, "ValueError", "None values not supported.", [&] { dense(Tensor()); });
  check_refused(Cause::weight_shape, "ValueError", "Mismatch at dim 0. values.shape=[3] weights.shape=[2].",
                [&] { dense(Tensor::ones({2})); });
  check_refused(Cause::shape, "ValueError", "Shapes (3, 3) and (3,) are incompatible",
                [] { losses::softmax_cross_entropy(Tensor::ones({3}), logits); });
  check_refused(Cause::type, "ValueError", "onehot_labels must not be None.",
                [] { losses::softmax_cross_entropy(Tensor(), logits); });
  check_refused(Cause::type, "ValueError", "logits must not be None.",
                [] { losses::sparse_softmax_cross_entropy(labels, Tensor()); });
  check_refused(Cause::type, "TypeError", "float16, float32, float64",
                [] { losses::softmax_cross_entropy(onehot, cast(logits, DType::bf16)); });
  check_refused(Cause::label_dtype, "TypeError", "not in list of allowed values: int32, int64",
                [] { losses::sparse_softmax_cross_entropy(cast(labels, DType::u8), logits); });
  CHECK_THROWS_AS(losses::sparse_softmax_cross_entropy(Tensor::from<int64_t>({0, 3, 1}, {3}), logits, 0.0), LabelError);
}
