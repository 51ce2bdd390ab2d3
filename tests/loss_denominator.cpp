// What docs/decisions/0012-element-weights-in-the-denominator.md says of the default denominator.
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/samples.h>
#include <xent/xent.h>

using namespace xent;

namespace {

constexpr int64_t rows = 300, classes = 11;

struct Result {
  double loss;
  std::vector<double> gradient;
  bool operator==(const Result&) const = default;
};

Result run(const Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions& options,
           const LossInputs& inputs) {
  Tape tape;
  tape.watch(logits);
  const Tensor loss = softmax_cross_entropy(logits, labels, options, inputs);
  return {loss.item(), cast(tape.backward(loss)[logits], DType::f64).to_vector<double>()};
}

void check_close(const Result& a, const Result& b) {
  CHECK(a.loss == doctest::Approx(b.loss).epsilon(1e-14));
  REQUIRE(a.gradient.size() == b.gradient.size());
  for (size_t i = 0; i < a.gradient.size(); ++i) CHECK(std::abs(a.gradient[i] - b.gradient[i]) < 1e-16);
}

const Tensor logits = normal_sample({rows, classes}, DType::f64, 1);
const Tensor labels = label_sample({rows}, classes, DType::i64, 2);

}  // namespace

TEST_CASE("an element weight of 0 leaves a mean alone exactly as an ignored label does, bit for bit") {
  for (const double smoothing : {0.0, 0.1}) {
    std::vector<int64_t> ignored = labels.to_vector<int64_t>();
    std::vector<double> weights(rows, 1);
    for (size_t r = 0; r < rows; r += 3) {
      ignored[r] = -100;
      weights[r] = 0;
    }
    const SoftmaxCrossEntropyOptions by_weight{.target = {.smoothing = smoothing}};
    const SoftmaxCrossEntropyOptions by_label{.target = {.ignore = -100, .smoothing = smoothing}};
    const Result a = run(logits, labels, by_weight, {.element_weights = Tensor::from(weights, {rows})});
    const Result b = run(logits, Tensor::from(ignored, {rows}), by_label, {});
    CHECK(a == b);
    CHECK(a != run(logits, labels, by_weight, {}));
  }
}

TEST_CASE("class weights are the element weights that rows of these labels have") {
  const Tensor of_classes = positive_sample({classes}, DType::f64, 3);
  const auto weights = of_classes.to_vector<double>();
  std::vector<double> of_rows;
  for (const int64_t label : labels.to_vector<int64_t>()) of_rows.push_back(weights[static_cast<size_t>(label)]);
  check_close(run(logits, labels, {}, {.class_weights = of_classes}),
              run(logits, labels, {}, {.element_weights = Tensor::from(of_rows, {rows})}));
}

TEST_CASE("a row of weight 2 is the row twice") {
  const Tensor first = logits.slice(0, 1), one = labels.slice(0, 1);
  std::vector<double> weights(rows, 1);
  weights[0] = 2;
  const Result a = run(logits, labels, {}, {.element_weights = Tensor::from(weights, {rows})});
  Result b = run(concat({logits, first}, 0), concat({labels, one}, 0), {}, {});
  for (size_t c = 0; c < classes; ++c) b.gradient[c] += b.gradient[rows * classes + c];
  b.gradient.resize(rows * classes);
  check_close(a, b);
}

TEST_CASE("a constant factor on all weights cancels in a mean") {
  const Tensor weights = positive_sample({rows}, DType::f64, 4);
  check_close(run(logits, labels, {}, {.element_weights = weights}),
              run(logits, labels, {}, {.element_weights = weights * 8.0}));
}
