// ONNX Runtime's losses under their own names: which semantics a dtype gets, the Grads against the tape, the errors.
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <xent/nn/compat/onnxruntime.h>
#include <xent/nn/compat/refused.h>
#include <xent/xent.h>

using namespace xent;
using namespace xent::compat;
namespace ort = xent::compat::onnxruntime;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr auto not_a_number = std::numeric_limits<float>::quiet_NaN();
const char* const reductions[] = {"mean", "sum", "none"};

Tensor labels_of(std::initializer_list<int64_t> labels) {
  return Tensor::from<int64_t>(labels, {static_cast<int64_t>(labels.size())});
}

// Scores of 2 x 3 x 2, [N, C, D], in which every one of the six positions is a row of three classes.
Tensor kdim_scores() { return Tensor::from({1, -2, .5, 0, 3, -1, 2, 2, -.25, 1.5, 0, 4}, {2, 3, 2}); }
Tensor kdim_labels() { return Tensor::from<int64_t>({2, 0, -7, 1}, {2, 2}); }  // -7 is to be ignored
Tensor kdim_weights() { return Tensor::from({.5, 2, 1}, {3}); }

std::vector<double> values(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

void check_close(const Tensor& got, const std::vector<double>& expected, double tolerance = 1e-6) {
  const auto actual = values(got);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(actual[i] - expected[i]) <= tolerance * (1 + std::abs(expected[i])));
  }
}

struct Reference {
  std::vector<double> losses;     // per row, weighted, 0 for ignored rows
  std::vector<double> gradients;  // of the sum, in the scores' layout
  double total = 0, weight = 0;
};

// Row by row from the formulas: scores [N, C, D], labels [N, D].
Reference reference(const Tensor& scores, const Tensor& labels, const std::vector<double>& w, int64_t ignore) {
  const int64_t classes = scores.shape()[1], inner = scores.shape().product(2, scores.rank());
  const auto x = values(scores);
  const auto y = labels.to_vector<int64_t>();
  Reference result;
  result.gradients.assign(x.size(), 0);
  for (int64_t row = 0; row < labels.elements(); ++row) {
    const int64_t label = y[static_cast<size_t>(row)], start = row / inner * classes * inner + row % inner;
    result.losses.push_back(0);
    if (label == ignore) continue;
    const auto at = [&](int64_t c) { return static_cast<size_t>(start + c * inner); };
    double s = 0;
    for (int64_t c = 0; c < classes; ++c) s += std::exp(x[at(c)]);
    const double weight = w.empty() ? 1 : w[static_cast<size_t>(label)];
    result.losses.back() = weight * (std::log(s) - x[at(label)]);
    result.total += result.losses.back();
    result.weight += weight;
    for (int64_t c = 0; c < classes; ++c) result.gradients[at(c)] = weight * (std::exp(x[at(c)]) / s - (c == label));
  }
  return result;
}

std::vector<double> scaled(std::vector<double> values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

Tensor gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& f, const Tensor& upstream = {}) {
  Tape tape;
  tape.watch(x);
  return tape.backward(f(x), {.upstream = upstream})[x];
}

}  // namespace

TEST_CASE("scores of [N, C, D], weights and an ignored label: output, log_prob and gradient are the formulas'") {
  const Reference expected = reference(kdim_scores(), kdim_labels(), {.5, 2, 1}, -7);
  for (const std::string reduction : reductions) {
    CAPTURE(reduction);
    Tape tape;
    const Tensor scores = kdim_scores();
    tape.watch(scores);
    const auto [output, log_prob] =
        ort::softmax_cross_entropy_loss(scores, kdim_labels(), kdim_weights(), -7, reduction);
    CHECK(log_prob.shape() == scores.shape());
    check_close(log_prob, values(log_softmax(kdim_scores(), 1)));
    if (reduction == "none") {
      CHECK(output.shape() == Shape{2, 2});
      check_close(output, expected.losses);
      const Gradients gradients = tape.backward(output, {.upstream = Tensor::full({2, 2}, 3)});
      check_close(gradients[scores], scaled(expected.gradients, 3));
    } else {
      const double denominator = reduction == "mean" ? expected.weight : 1;
      CHECK(output.shape() == Shape{});
      check_close(output, {expected.total / denominator});
      check_close(tape.backward(output)[scores], scaled(expected.gradients, 1 / denominator));
    }
  }
}

TEST_CASE("without ignore_index f32 ignores the label -1; in other dtypes, as in ONNX, it is out of range") {
  const Tensor scores = Tensor::from({1, 2, 3, 4, 0, 0}, {2, 3}), labels = labels_of({0, -1});
  const double first = reference(scores, labels, {}, -1).total;
  check_close(ort::softmax_cross_entropy_loss(scores, labels).output, {first});
  check_close(ort::softmax_cross_entropy_loss_internal(scores, labels).output, {first});
  check_close(ort::cuda::softmax_cross_entropy_loss_internal(cast(scores, DType::f16), labels).output, {first}, 1e-3);
  for (const DType dtype : {DType::f64, DType::f16, DType::bf16})
    CHECK_THROWS_AS(ort::softmax_cross_entropy_loss(cast(scores, dtype), labels), LabelError);
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss_internal(scores, labels, {}, {}, "mean", DType::f16), LabelError);
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss(scores, labels, {}, 7), LabelError);  // 7 instead of -1
}

TEST_CASE("ignore_index may be any number, as an attribute or as a tensor of shape [] or [1]") {
  const Tensor scores = Tensor::from({1, 2, 3, 4, 0, 0}, {2, 3});
  for (const int64_t ignore : {int64_t{-100}, int64_t{255}, int64_t{3}, int64_t{2}, INT64_MIN, INT64_MAX}) {
    CAPTURE(ignore);
    const Tensor labels = labels_of({0, ignore});
    const double first = reference(scores, labels, {}, ignore).total;
    const Tensor attribute = ort::softmax_cross_entropy_loss(scores, labels, {}, ignore).output;
    check_close(attribute, {first});
    for (const Shape& shape : {Shape{}, Shape{1}}) {
      const Tensor tensor = Tensor::from<int64_t>({ignore}, shape);
      CHECK(ort::softmax_cross_entropy_loss_internal(scores, labels, {}, tensor).output.item() == attribute.item());
    }
  }
}

TEST_CASE("a Step replays the loss and its gradient, and reads the ignore_index of each call") {
  const Tensor scores = kdim_scores(), labels = Tensor::from<int64_t>({2, 0, 1, 1}, {2, 2});
  Step step([&](const Tensor& x, const Tensor& ignore) {
    Tape tape;
    tape.watch(x);
    const Tensor output = ort::softmax_cross_entropy_loss_internal(x, labels, {}, ignore, "sum").output;
    return std::pair(output, tape.backward(output)[x]);
  });
  for (const int64_t ignore : {2, 1, -100, 0, 1}) {
    const auto [output, grad] = step(scores, Tensor::from<int64_t>({ignore}, {}));
    const Reference expected = reference(scores, labels, {}, ignore);
    check_close(output, {expected.total});
    check_close(grad, expected.gradients);
  }
}

TEST_CASE("a mean over no weight is the sum for f32, NaN for other dtypes, and on CUDA NaN unless all is ignored") {
  const Tensor scores = Tensor::from({1, 2, 3, 4, 0, 0}, {2, 3}), all_ignored = labels_of({-1, -1});
  const Tensor zero = Tensor::zeros({3}), cancelling = Tensor::from({1, -1, 0}, {3}), ignore = labels_of({-1});
  const auto internal = [&](const Tensor& weights) {
    return ort::softmax_cross_entropy_loss_internal(scores, labels_of({0, 1}), weights).output.item();
  };
  const auto on_cuda = [&](const Tensor& weights) {
    return ort::cuda::softmax_cross_entropy_loss_internal(scores, labels_of({0, 1}), weights).output.item();
  };
  CHECK(ort::softmax_cross_entropy_loss(scores, all_ignored).output.item() == 0);
  CHECK(internal(zero) == 0);
  CHECK(internal(cancelling) ==
        doctest::Approx(reference(scores, labels_of({0, 1}), {1, -1, 0}, -1).total).epsilon(1e-6));
  CHECK(ort::cuda::softmax_cross_entropy_loss_internal(scores, all_ignored).output.item() == 0);
  CHECK(std::isnan(on_cuda(zero)));
  CHECK(std::isnan(on_cuda(cancelling)));  // the rows are infinite with both signs
  CHECK(std::isnan(ort::softmax_cross_entropy_loss(cast(scores, DType::f64), all_ignored, {}, -1).output.item()));
}

TEST_CASE("the gradient of a mean over no weight is that of the sum for f32, and 0 on CUDA") {
  const Tensor scores = Tensor::from({1, 2, 3, 4, 0, 0}, {2, 3}), labels = labels_of({0, 1});
  const Tensor weights = Tensor::from({1, -1, 0}, {3}), log_prob = log_softmax(scores);
  const auto sum = reference(scores, labels, {1, -1, 0}, -1).gradients;
  check_close(
      gradient(scores, [&](const Tensor& x) { return ort::softmax_cross_entropy_loss(x, labels, weights).output; }),
      sum);
  check_close(ort::softmax_cross_entropy_loss_grad(Tensor::ones({}), log_prob, labels, weights), sum);
  const std::vector<double> zeros(6);
  CHECK(values(gradient(scores, [&](const Tensor& x) {
          return ort::cuda::softmax_cross_entropy_loss_internal(x, labels, weights).output;
        })) == zeros);
  CHECK(values(ort::cuda::softmax_cross_entropy_loss_internal_grad(Tensor::ones({}), log_prob, labels, weights)) ==
        zeros);
}

TEST_CASE("a Grad of log_prob is the tape's gradient, for every reduction and both kernels") {
  const Tensor scores = kdim_scores(), labels = kdim_labels(), weights = kdim_weights();
  const Tensor ignore = Tensor::from<int64_t>({-7}, {});
  for (const std::string reduction : reductions) {
    CAPTURE(reduction);
    const Tensor dY = reduction == "none" ? Tensor::from({1, 2, 3, -4}, {2, 2}) : Tensor::scalar(3);
    const auto [output, log_prob] =
        ort::softmax_cross_entropy_loss_internal(scores, labels, weights, ignore, reduction);
    const auto tape = values(gradient(
        scores,
        [&](const Tensor& x) {
          return ort::softmax_cross_entropy_loss_internal(x, labels, weights, ignore, reduction).output;
        },
        dY));
    check_close(ort::softmax_cross_entropy_loss_internal_grad(dY, log_prob, labels, weights, ignore, {}, reduction),
                tape);
    check_close(ort::softmax_cross_entropy_loss_grad(dY, log_prob, labels, weights, reduction, -7), tape);
    check_close(
        ort::cuda::softmax_cross_entropy_loss_internal_grad(dY, log_prob, labels, weights, ignore, {}, reduction),
        tape);
  }
}

TEST_CASE("the bias is added in the scores' layout after all else, to ignored rows too; only its size has to fit") {
  const Tensor scores = kdim_scores(), labels = kdim_labels(), ignore = Tensor::from<int64_t>({-7}, {1});
  const auto log_prob = ort::softmax_cross_entropy_loss_internal(scores, labels, {}, ignore).log_prob;
  std::vector<float> ramp(12);
  for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<float>(i);
  const Tensor bias = Tensor::from(ramp, {4, 3}), dY = Tensor::ones({1});
  auto expected = reference(scores, labels, {}, -7).gradients;
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = expected[i] / 3 + static_cast<double>(i);
  check_close(ort::softmax_cross_entropy_loss_internal_grad(dY, log_prob, labels, {}, ignore, bias), expected);
  check_close(ort::cuda::softmax_cross_entropy_loss_internal_grad(dY, log_prob, labels, {}, ignore, bias), expected);
  check_close(
      gradient(scores,
               [&](const Tensor& x) {
                 return ort::cuda::softmax_cross_entropy_loss_internal(x, labels, {}, ignore, "mean", {}, bias).output;
               }),
      expected);
}

TEST_CASE(
    "output_type is the dtype of both results, the gradient has the scores'; f64 on either side computes in f64") {
  const Tensor labels = labels_of({2, 0});
  for (const DType from : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const DType to : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      CAPTURE(name(from));
      CAPTURE(name(to));
      const Tensor scores = cast(Tensor::from({1, 2, 3, 4, 0, 0}, {2, 3}), from), weights = Tensor::ones({3}, from);
      const double exact = reference(scores, labels, {}, -1).total / 2;
      Tape tape;
      tape.watch(scores);
      const auto [output, log_prob] = ort::softmax_cross_entropy_loss_internal(scores, labels, weights, {}, "mean", to);
      CHECK(output.dtype() == to);
      CHECK(log_prob.dtype() == to);
      CHECK(tape.backward(output)[scores].dtype() == from);
      const double tolerance = to == DType::f64 ? 1e-14 : to == DType::f32 ? 1e-7 : to == DType::f16 ? 1e-3 : 8e-3;
      check_close(output, {exact}, tolerance);
      const Tensor dY = Tensor::ones({}, from), lp = cast(log_prob, from);
      CHECK(ort::softmax_cross_entropy_loss_internal_grad(dY, lp, labels, {}, {}, {}, "mean", to).dtype() == to);
    }
}

TEST_CASE("a Grad multiplies dY by a weight in f32: 65536 times 2 is no infinity in f16") {
  const Tensor log_prob = cast(log_softmax(Tensor::zeros({16, 4})), DType::f16),
               labels = Tensor::zeros({16}, DType::i64);
  const Tensor weights = Tensor::full({4}, 2, DType::f16), dY = Tensor::full({}, 32768, DType::f16);
  const Tensor got = ort::softmax_cross_entropy_loss_grad(dY, log_prob, labels, weights);
  CHECK(values(got)[1] == doctest::Approx(32768 / 16 * .25).epsilon(1e-3));
}

TEST_CASE("rows that are ignored are not read: NaN there changes nothing, and their gradient is 0") {
  const Tensor scores = Tensor::from({1, 2, 3, not_a_number, 0, 0}, {2, 3}), labels = labels_of({0, 5});
  const auto f = [&](const Tensor& x) { return ort::softmax_cross_entropy_loss(x, labels, {}, 5).output; };
  CHECK(f(scores).item() == doctest::Approx(2.4076059644).epsilon(1e-6));
  const auto grads = values(gradient(scores, f));
  for (size_t i = 3; i < 6; ++i) CHECK((grads[i] == 0 && !std::signbit(grads[i])));
}

TEST_CASE("a weight of 0 times an infinite loss is NaN; the gradient is 0") {
  const Tensor scores = Tensor::from({0, static_cast<float>(-infinity), 1, 2}, {2, 2}), labels = labels_of({1, 0});
  const Tensor weights = Tensor::from({1, 0}, {2});
  const auto f = [&](const Tensor& x) { return ort::softmax_cross_entropy_loss(x, labels, weights).output; };
  CHECK(std::isnan(f(scores).item()));
  const auto grads = values(gradient(scores, f));
  CHECK(grads[0] == 0);
  CHECK(grads[1] == 0);
}

TEST_CASE("log_prob carries a gradient too") {
  const Tensor scores = kdim_scores(), v = Tensor::from({1, 0, 2, 0, 0, 3, 0, 0, 1, 1, 0, 0}, {2, 3, 2});
  const Tensor expected = gradient(scores, [&](const Tensor& x) { return sum(log_softmax(x, 1) * v); });
  check_close(gradient(scores,
                       [&](const Tensor& x) {
                         return sum(ort::softmax_cross_entropy_loss(x, kdim_labels(), {}, -7).log_prob * v);
                       }),
              values(expected));
}

TEST_CASE("the dense loss: classes on the last axis, p - q also for a mass that is not 1, 'none' without its minus") {
  const Tensor logits = Tensor::from({1, 2, 3, 4, 0, 0}, {1, 2, 3}), q = Tensor::from({.5, 1, .25, 0, 2, 0}, {1, 2, 3});
  const auto lp = values(log_softmax(logits)), target = values(q);
  double total = 0;
  std::vector<double> p_minus_q;
  for (size_t i = 0; i < lp.size(); ++i) {
    total += target[i] * lp[i];
    p_minus_q.push_back(std::exp(lp[i]) - target[i]);
  }
  Tape tape;
  tape.watch(logits);
  tape.watch(q);
  const auto [output, log_prob] = ort::softmax_cross_entropy(logits, q);
  check_close(output, {-total / 2});
  check_close(log_prob, lp);
  check_close(ort::softmax_cross_entropy(logits, q, "sum").output, {-total});
  const auto none = ort::softmax_cross_entropy(logits, q, "none").output;
  CHECK(none.shape() == Shape{});
  check_close(none, {total});
  const Gradients gradients = tape.backward(output);
  check_close(gradients[logits], scaled(p_minus_q, .5));
  CHECK(!gradients.contains(q));
  check_close(ort::softmax_cross_entropy_grad(Tensor::scalar(2), log_prob, q, "sum"), scaled(p_minus_q, 2));
  CHECK_THROWS_AS(ort::softmax_cross_entropy_grad(Tensor::scalar(2), log_prob, q, "none"), Refused);
}

TEST_CASE("the sparse loss: a weight per row, divided by their sum whatever it is; 'none' is the sum") {
  const Tensor logits = Tensor::from({1, 2, 3, 4, 0, 0}, {2, 3}), labels = labels_of({2, 0});
  const Tensor weight = Tensor::from({3, .5}, {2}), ones = Tensor::ones({2});
  const Reference rows = reference(logits, labels, {}, -1);
  const double total = 3 * rows.losses[0] + .5 * rows.losses[1];
  auto grads = rows.gradients;
  for (size_t i = 0; i < 6; ++i) grads[i] *= i < 3 ? 3 : .5;
  Tape tape;
  tape.watch(logits);
  tape.watch(weight);
  const auto [output, log_prob] = ort::sparse_softmax_cross_entropy(logits, labels, weight);
  check_close(output, {total / 3.5});
  for (const char* reduction : {"sum", "none"})
    check_close(ort::sparse_softmax_cross_entropy(logits, labels, weight, reduction).output, {total});
  check_close(ort::sparse_softmax_cross_entropy(logits, labels).output, {rows.total / 2});
  CHECK(std::isnan(ort::sparse_softmax_cross_entropy(logits, labels, Tensor::zeros({2})).output.item()));
  const Tensor masked = Tensor::from({0, static_cast<float>(-infinity)}, {1, 2});  // 0 times an infinite loss
  CHECK(std::isnan(ort::sparse_softmax_cross_entropy(masked, labels_of({1}), Tensor::zeros({1}), "sum").output.item()));
  const Gradients gradients = tape.backward(output);
  check_close(gradients[logits], scaled(grads, 1 / 3.5));
  CHECK(!gradients.contains(weight));
  check_close(ort::sparse_softmax_cross_entropy_grad(Tensor::scalar(2), log_prob, labels, weight, "none"),
              scaled(grads, 2));
}

TEST_CASE("a batch of no rows is a mean of NaN and a sum of 0 where the original defines it, and refused elsewhere") {
  const Tensor logits = Tensor::zeros({0, 3}), labels = Tensor::zeros({0}, DType::i64);
  CHECK(std::isnan(ort::softmax_cross_entropy(logits, logits).output.item()));
  CHECK(ort::softmax_cross_entropy(logits, logits, "sum").output.item() == 0);
  CHECK(std::isnan(ort::sparse_softmax_cross_entropy(logits, labels).output.item()));
  CHECK(ort::sparse_softmax_cross_entropy(logits, labels, {}, "sum").output.item() == 0);
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss(logits, labels), Refused);  // divides by zero there
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss_grad(Tensor::ones({}), logits, labels), Refused);
}
