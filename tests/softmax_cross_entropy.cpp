// The fused loss: what its functions return, their error texts, and that it is the composition of log_softmax, pick,
// scale and mean on the tape. The reference judges it in loss_properties.cpp; what must not go wrong is in
// failure_modes_*.cpp, what must not change it in loss_invariance.cpp, what it stores in loss_memory.cpp.
#include <doctest/doctest.h>

#include <xent/ops/all_ops.h>
#include <xent/ops/loss_call.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
using Denominator = Reduction::Denominator;

namespace {

const Tensor x = normal_sample({33, 10}, DType::f64, 1);
const Tensor y = label_sample({33}, 10, DType::i32, 2);
const Tensor w = positive_sample({10}, DType::f64, 3), e = positive_sample({33}, DType::f64, 4);

// The composition. Per row: -e ((1 - eps) w_y log p_y + eps / C sum_c w_c log p_c).
struct Unfused {
  Tensor rows, weights;  // the losses, and what each adds to a mean's denominator
};

Unfused unfused(const Tensor& logits, const Tensor& element_weights, double smoothing) {
  const Tensor lp = log_softmax(logits);
  const Tensor of_label = pick(mul(lp, w), y), of_all = sum(mul(lp, w), {1});
  const Tensor label_weight = pick(mul(Tensor::ones({33, 10}, DType::f64), w), y);
  const Tensor rows = add(scale(of_label, smoothing - 1), scale(of_all, -smoothing / 10));
  const Tensor weights = shift(scale(label_weight, 1 - smoothing), smoothing / 10 * sum(w).item());
  return {mul(rows, element_weights), mul(weights, element_weights)};
}

std::vector<double> gradient(Tape& tape, const Tensor& loss, const Tensor& of) {
  return tape.backward(loss, {.upstream = Tensor::ones(loss.shape(), DType::f64), .retain = true})[of]
      .to_vector<double>();
}

}  // namespace

TEST_CASE("it equals scale(mean(pick(log_softmax)), -1), loss and gradient") {
  Tape tape;
  tape.watch(x);
  const Tensor fused = softmax_cross_entropy(x, y), composed = scale(mean(pick(log_softmax(x), y)), -1);
  CHECK(fused.item() == doctest::Approx(composed.item()).epsilon(1e-14));
  CHECK(near(gradient(tape, fused, x), gradient(tape, composed, x), 1e-15));
}

TEST_CASE("with weights, smoothing and every reduction it equals the composition, also for the element weights") {
  for (const double smoothing : {0.0, 0.1})
    for (const Kind kind : {Kind::none, Kind::sum, Kind::mean}) {
      CAPTURE(smoothing);
      Tape tape;
      tape.watch(x);
      tape.watch(e);
      const Tensor fused =
          softmax_cross_entropy(x, y, {.target = {.smoothing = smoothing}, .reduction = {.kind = kind}},
                                {.class_weights = w, .element_weights = e});
      const auto [rows, weights] = unfused(x, e, smoothing);
      const Tensor composed = kind == Kind::none ? rows : kind == Kind::sum ? sum(rows) : div(sum(rows), sum(weights));
      CHECK(near(fused.to_vector<double>(), composed.to_vector<double>(), 1e-13));
      CHECK(near(gradient(tape, fused, x), gradient(tape, composed, x), 1e-14));
      CHECK(near(gradient(tape, fused, e), gradient(tape, composed, e), 1e-13));
    }
}

TEST_CASE("with a distribution it equals minus the sum of its product with log_softmax, for both arguments") {
  const Tensor q = softmax(normal_sample({33, 10}, DType::f64, 5));
  Tape tape;
  tape.watch(x);
  tape.watch(q);
  const Tensor fused = softmax_cross_entropy(x, q, {}, {.class_weights = w});
  const Tensor weighted = mul(q, w), composed = div(scale(sum(mul(weighted, log_softmax(x))), -1), sum(weighted));
  CHECK(fused.item() == doctest::Approx(composed.item()).epsilon(1e-14));
  CHECK(near(gradient(tape, fused, x), gradient(tape, composed, x), 1e-15));
  CHECK(near(gradient(tape, fused, q), gradient(tape, composed, q), 1e-14));
}

TEST_CASE("log-probabilities that are returned are log_softmax") {
  Tape tape;
  tape.watch(x);
  const Tensor given = softmax_cross_entropy_outputs(x, y, {.output = {.log_probs = true}}).log_probs,
               composed = log_softmax(x);
  CHECK(near(given.to_vector<double>(), composed.to_vector<double>(), 1e-14));
  const Tensor upstream = normal_sample({33, 10}, DType::f64, 6);
  CHECK(near(gradient(tape, mul(given, upstream), x), gradient(tape, mul(composed, upstream), x), 1e-14));
}

TEST_CASE(
    "statistics are the largest logit and the logarithm of the sum of exponentials of each row, 0 for ignored ones") {
  const Tensor logits = Tensor::from({1, 3, 2, 5, 5, 5, 7, 8, 9}, {3, 3});
  const auto outputs = softmax_cross_entropy_outputs(logits, labels({0, -1, 1}), {.target = {.ignore = -1}});
  CHECK(outputs.statistics.shape() == Shape{3, 2});
  CHECK(outputs.statistics.dtype() == DType::f32);
  const std::vector<float> pairs = outputs.statistics.to_vector<float>();
  const double log_sum = std::log(1 + std::exp(-1) + std::exp(-2));
  CHECK(pairs[0] == 3);
  CHECK(pairs[1] == doctest::Approx(log_sum).epsilon(1e-6));
  CHECK(pairs[2] == 0);
  CHECK(pairs[3] == 0);
  CHECK(pairs[4] == 9);
  CHECK_FALSE(outputs.log_probs);
  CHECK(softmax_cross_entropy_outputs(x, y).statistics.dtype() == DType::f64);
}

TEST_CASE("the denominator that is returned is that of the function of its own, and 1 where nothing is divided") {
  const LossInputs inputs{.class_weights = w, .element_weights = e};
  for (int i = 0; i < 6; ++i) {
    const SoftmaxCrossEntropyOptions options{.target = {.ignore = 3},
                                             .reduction = {.denominator = static_cast<Denominator>(i)}};
    CHECK(softmax_cross_entropy_outputs(x, y, options, inputs).denominator.item() ==
          softmax_cross_entropy_denominator(x.shape(), y, options, inputs).item());
  }
  CHECK(softmax_cross_entropy_outputs(x, y, reduced(Kind::sum), inputs).denominator.item() == 1);
  CHECK(softmax_cross_entropy_outputs(x, y, {}, {.normalizer = Tensor::scalar(7)}).denominator.item() == 7);
}

TEST_CASE("an addend is added to the gradient before it is rounded, also in ignored rows") {
  const Tensor logits = cast(normal_sample({2, 3}, DType::f32, 7), DType::bf16), target = labels({-1, 2});
  const Tensor addend = Tensor::from({1, 2, 3, 256, 0.5f, 0.25f}, {2, 3});
  const SoftmaxCrossEntropyOptions options{.target = {.ignore = -1}};
  const auto [loss, grad] = run(logits, target, options, {.grad_addend = addend});
  CHECK(loss == run(logits, target, options).loss);
  CHECK(std::vector<double>(grad.begin(), grad.begin() + 3) == std::vector<double>{1, 2, 3});
  const auto want = reference::loss(logits, target, options, {.grad_addend = addend});
  const LossAndGrad both = softmax_cross_entropy_with_grad(logits, target, options, {.grad_addend = addend});
  CHECK(reference::difference(both.grad, want.grad_logits, 0x1p-23) == "");
}

TEST_CASE("Grad takes log-probabilities and empty statistics for logits, and gives the dtype asked for") {
  const Tensor statistics = softmax_cross_entropy_outputs(x, y).statistics, one = Tensor::ones({});
  const Tensor from_logits = softmax_cross_entropy_grad(one, x, y, statistics);
  const Tensor from_log_probs = softmax_cross_entropy_grad(one, log_softmax(x), y, {});
  CHECK(near(from_logits.to_vector<double>(), from_log_probs.to_vector<double>(), 1e-15));
  CHECK(near(from_logits.to_vector<double>(), run(x, y).grad, 1e-16));
  CHECK(softmax_cross_entropy_grad(one, x, y, statistics, {.output = {.dtype = DType::bf16}}).dtype() == DType::bf16);
}

TEST_CASE("the class axis may be any axis") {
  const Tensor cube = normal_sample({2, 5, 3}, DType::f64, 8), target = label_sample({2, 3}, 5, DType::i64, 9);
  const Tensor flat = permute(cube, {0, 2, 1}).reshape({6, 5});
  const double across = loss_of(cube, target, {.axis = 1});
  CHECK(across == doctest::Approx(loss_of(flat, target.reshape({6}))).epsilon(1e-14));
  CHECK(loss_of(cube, target, {.axis = -2}) == across);
}

TEST_CASE("ignored rows change neither the loss nor the gradient of the others, bit for bit") {
  const Tensor logits = normal_sample({6, 5}, DType::f32, 10);
  const auto all = run(logits, labels({1, 2, 3, 4, -1, -1}), {.target = {.ignore = -1}});
  const auto four = run(slice_rows(logits, 0, 4).clone(), labels({1, 2, 3, 4}));
  CHECK(all.loss == four.loss);
  CHECK(std::vector<double>(all.grad.begin(), all.grad.begin() + 20) == four.grad);
}

TEST_CASE("a label out of range is an error that names row, label and classes, and guesses") {
  const Tensor logits = Tensor::zeros({4, 4});
  const auto text = [&](const Tensor& target) {
    return error_of<LabelError>([&] { softmax_cross_entropy(logits, target); });
  };
  CHECK(text(labels({0, 1, 2, 7})) == "softmax_cross_entropy: row 3: label 7 is not in [0, 4) (min 0, max 7)");
  CHECK(text(Tensor::from<int32_t>({1, 2, 3, 4}, {4})) ==
        "softmax_cross_entropy: row 3: label 4 is not in [0, 4) (labels look 1-based: min 1, max 4)");
}

TEST_CASE("shapes and dtypes that do not fit are errors that say what is expected") {
  const Tensor logits = Tensor::zeros({4, 3});
  CHECK_THROWS_WITH_AS(softmax_cross_entropy(logits, Tensor::zeros({4, 1}, DType::i64)),
                       "softmax_cross_entropy: labels [4, 1] must be [4], one per row of logits [4, 3] (classes on "
                       "axis 1); reshape them",
                       ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, Tensor::zeros({3}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor(), Tensor::zeros({3}, DType::i64)), Error);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, Tensor()), ArgumentError);
}

TEST_CASE("axes that the op's attributes leave unresolved are an error, not another place in memory") {
  const Tensor none;
  const auto call = [&](const Op& op, const Tensor& logits, int64_t axis, int batch_axis) {
    LossAttrs attrs{.options = {.axis = axis}, .classes = 10};
    attrs.options.reduction = {.kind = Reduction::Kind::sample_mean, .batch_axis = batch_axis};
    return apply(op, {logits, y, none, none, none, none, none}, attrs)[0].elements();
  };
  CHECK(call(softmax_cross_entropy_op, x, 1, 0) == 33);
  CHECK(call(softmax_cross_entropy_denominator_op, none, 1, 0) == 1);
  for (const int64_t axis : {int64_t{-1}, int64_t{2}, int64_t{1} << 32, INT64_MIN}) {
    CHECK_THROWS_AS(call(softmax_cross_entropy_op, x, axis, 0), ShapeError);
    CHECK_THROWS_AS(call(softmax_cross_entropy_denominator_op, none, axis, 0), ShapeError);
  }
  for (const int batch_axis : {-2, 2}) {
    CHECK_THROWS_AS(call(softmax_cross_entropy_op, x, 1, batch_axis), ShapeError);
    CHECK_THROWS_AS(call(softmax_cross_entropy_denominator_op, none, 1, batch_axis), ShapeError);
  }
}
