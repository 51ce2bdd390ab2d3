// The fused loss against a slow, obviously right reference in f64, and against the unfused composition on the tape.
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <string>

#include <doctest/doctest.h>

#include <xent/ops/samples.h>
#include <xent/xent.h>

using namespace xent;
using Kind = Reduction::Kind;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Case {
  std::vector<double> logits;  // [rows, classes]
  std::vector<int64_t> labels;
  std::vector<double> weights;  // empty: ones
  std::optional<int64_t> ignore;
  Kind kind = Kind::mean;
};

struct Expected {
  std::vector<double> loss, gradient;  // of upstream 1
};

// Row by row, as the formulas stand.
Expected reference(const Case& c, int64_t classes) {
  const auto rows = static_cast<int64_t>(c.labels.size());
  Expected expected;
  expected.gradient.assign(c.logits.size(), 0);
  std::vector<double> losses;
  double denominator = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const double* x = c.logits.data() + r * classes;
    const int64_t y = c.labels[static_cast<size_t>(r)];
    if (c.ignore && y == *c.ignore) {
      losses.push_back(0);
      continue;
    }
    const double w = c.weights.empty() ? 1 : c.weights[static_cast<size_t>(y)];
    double m = -std::numeric_limits<double>::infinity(), s = 0;
    for (int64_t k = 0; k < classes; ++k) m = std::max(m, x[k]);
    for (int64_t k = 0; k < classes; ++k) s += std::exp(x[k] - m);
    losses.push_back(w * (std::log(s) - (x[y] - m)));
    denominator += w;
    for (int64_t k = 0; k < classes; ++k)
      expected.gradient[static_cast<size_t>(r * classes + k)] = w * (std::exp(x[k] - m) / s - (k == y));
  }
  if (c.kind == Kind::none) {
    expected.loss = losses;
    return expected;
  }
  double total = 0;
  for (const double loss : losses) total += loss;
  if (c.kind == Kind::mean) {
    total = denominator == 0 ? 0 : total / denominator;
    for (double& g : expected.gradient) g = denominator == 0 ? 0 : g / denominator;
  }
  expected.loss = {total};
  return expected;
}

template <class T>
void compare(const Case& c, int64_t classes, double tolerance) {
  const auto rows = static_cast<int64_t>(c.labels.size());
  std::vector<T> values(c.logits.begin(), c.logits.end()), weights(c.weights.begin(), c.weights.end());
  Case rounded = c;
  rounded.logits.assign(values.begin(), values.end());
  rounded.weights.assign(weights.begin(), weights.end());
  const Expected expected = reference(rounded, classes);

  const Tensor logits = Tensor::from(values, {rows, classes});
  const Tensor labels = Tensor::from(c.labels, {rows});
  SoftmaxCrossEntropyOptions options{.target = {.ignore = c.ignore}, .reduction = {.kind = c.kind}};
  if (!weights.empty()) options.weights.classes = Tensor::from(weights, {classes});
  Tape tape;
  tape.watch(logits);
  const Tensor loss = softmax_cross_entropy(logits, labels, options);
  const Gradients gradients = tape.backward(loss, {.upstream = Tensor::ones(loss.shape(), loss.dtype())});
  const std::vector<T> got = loss.to_vector<T>(), gradient = gradients[logits].to_vector<T>();
  REQUIRE(got.size() == expected.loss.size());
  for (size_t i = 0; i < got.size(); ++i)
    CHECK(std::abs(got[i] - expected.loss[i]) <= tolerance * (1 + std::abs(expected.loss[i])));
  for (size_t i = 0; i < gradient.size(); ++i) CHECK(std::abs(gradient[i] - expected.gradient[i]) <= tolerance);
}

Case random_case(int64_t rows, int64_t classes, uint64_t seed) {
  HostRandom random(seed);
  Case c;
  for (int64_t i = 0; i < rows * classes; ++i) c.logits.push_back(3 * random.normal());
  for (int64_t r = 0; r < rows; ++r)
    c.labels.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(classes))));
  return c;
}

std::string label_error(const Tensor& logits, const Tensor& labels) {
  try {
    softmax_cross_entropy(logits, labels);
  } catch (const LabelError& error) {
    return error.what();
  }
  return "no error";
}

std::pair<double, std::vector<float>> loss_and_gradient(const Tensor& logits, const Tensor& labels,
                                                        const SoftmaxCrossEntropyOptions& options = {}) {
  Tape tape;
  tape.watch(logits);
  const Tensor loss = softmax_cross_entropy(logits, labels, options);
  return {loss.item(), tape.backward(loss)[logits].to_vector<float>()};
}

}  // namespace

TEST_CASE("loss and gradient are the reference's, with weights, an ignored label, and every reduction") {
  for (const int64_t classes : {1, 2, 3, 10, 31, 33, 1000, 1025})
    for (const Kind kind : {Kind::none, Kind::sum, Kind::mean})
      for (const bool weighted : {false, true}) {
        CAPTURE(classes);
        CAPTURE(weighted);
        Case c = random_case(7, classes, static_cast<uint64_t>(classes) + 100);
        c.kind = kind;
        c.ignore = -100;
        c.labels[2] = c.labels[5] = -100;
        if (weighted)
          for (int64_t k = 0; k < classes; ++k) c.weights.push_back(0.5 + static_cast<double>(k % 5));
        compare<double>(c, classes, 1e-13);
        compare<float>(c, classes, 2e-6);
      }
}

TEST_CASE("it equals scale(mean(pick(log_softmax)), -1), loss and gradient") {
  const Tensor logits = normal_sample({33, 10}, DType::f64, 1);
  const Tensor labels = label_sample({33}, 10, DType::i32, 2);
  Tape tape;
  tape.watch(logits);
  const Tensor fused = softmax_cross_entropy(logits, labels);
  const Tensor unfused = scale(mean(pick(log_softmax(logits), labels)), -1);
  CHECK(fused.item() == doctest::Approx(unfused.item()).epsilon(1e-14));
  const std::vector<double> a = tape.backward(fused, {.retain = true})[logits].to_vector<double>();
  const std::vector<double> b = tape.backward(unfused)[logits].to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-12));
}

TEST_CASE("the class axis may be any axis") {
  const Tensor logits = normal_sample({2, 5, 3}, DType::f64, 3);
  const Tensor labels = label_sample({2, 3}, 5, DType::i64, 4);
  const double across = softmax_cross_entropy(logits, labels, {.axis = 1}).item();
  double total = 0;
  const std::vector<double> x = logits.to_vector<double>();
  const std::vector<int64_t> y = labels.to_vector<int64_t>();
  for (size_t o = 0; o < 2; ++o)
    for (size_t i = 0; i < 3; ++i) {
      double s = 0;
      for (size_t k = 0; k < 5; ++k) s += std::exp(x[o * 15 + k * 3 + i]);
      total += std::log(s) - x[o * 15 + static_cast<size_t>(y[o * 3 + i]) * 3 + i];
    }
  CHECK(across == doctest::Approx(total / 6).epsilon(1e-13));
  CHECK(softmax_cross_entropy(logits, labels, {.axis = -2}).item() == across);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, labels, {.axis = 3}), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, labels, {.axis = INT64_MIN}), ShapeError);
}

TEST_CASE("labels of u8, i32 and i64 give the same bits") {
  const Tensor logits = normal_sample({9, 4}, DType::f32, 5);
  const double with_i64 = softmax_cross_entropy(logits, label_sample({9}, 4, DType::i64, 6)).item();
  CHECK(softmax_cross_entropy(logits, label_sample({9}, 4, DType::i32, 6)).item() == with_i64);
  CHECK(softmax_cross_entropy(logits, label_sample({9}, 4, DType::u8, 6)).item() == with_i64);
}

TEST_CASE("a row of one dimension and a scalar label are one row") {
  CHECK(softmax_cross_entropy(Tensor::from({0, 0}, {2}), Tensor::full({}, 1, DType::i64)).item() ==
        doctest::Approx(std::numbers::ln2));
}

TEST_CASE("large logits neither overflow nor lose digits") {
  auto [loss, gradient] = loss_and_gradient(Tensor::from({0, -104}, {1, 2}), Tensor::from<int64_t>({1}, {1}));
  CHECK(loss == 104);
  CHECK(gradient == std::vector<float>{1, -1});
  std::tie(loss, gradient) =
      loss_and_gradient(Tensor::from({300, 100, 100, -100, 200, 500}, {2, 3}), Tensor::from<int64_t>({0, 1}, {2}));
  CHECK(loss == 150);
  std::tie(loss, gradient) = loss_and_gradient(Tensor::from({3e38f, -3e38f}, {1, 2}), Tensor::from<int64_t>({1}, {1}));
  CHECK(loss == inf);
  CHECK(gradient == std::vector<float>{1, -1});
}

TEST_CASE("a common offset changes nothing where x + c is exact") {
  HostRandom random(7);
  std::vector<float> x(40 * 10);
  for (float& value : x) value = static_cast<float>(static_cast<int>(random.below(129)) - 64) / 16;
  const Tensor labels = label_sample({40}, 10, DType::i64, 8);
  const double loss = softmax_cross_entropy(Tensor::from(x, {40, 10}), labels).item();
  for (const float c : {1e3f, 1e6f, -1e6f}) {
    std::vector<float> shifted = x;
    for (float& value : shifted) value += c;
    CHECK(std::abs(softmax_cross_entropy(Tensor::from(shifted, {40, 10}), labels).item() - loss) < 1e-6);
  }
}

TEST_CASE("a class masked by -inf gets gradient 0 and a finite loss") {
  const auto [loss, gradient] = loss_and_gradient(Tensor::from({-inf, 0, 1}, {1, 3}), Tensor::from<int64_t>({1}, {1}));
  CHECK(loss == doctest::Approx(1.3132616875).epsilon(1e-6));
  CHECK(gradient[0] == 0);
}

TEST_CASE("an ignored row is not read, and its gradient is +0") {
  const auto [loss, gradient] =
      loss_and_gradient(Tensor::from({not_a_number, not_a_number, 0, 0, inf, -inf}, {3, 2}),
                        Tensor::from<int64_t>({255, 0, 255}, {3}), {.target = {.ignore = 255}});
  CHECK(loss == doctest::Approx(std::numbers::ln2));
  for (const size_t i : {0, 1, 4, 5}) {
    CHECK(gradient[i] == 0);
    CHECK(!std::signbit(gradient[i]));
  }
}

TEST_CASE("the ignored label may be any number, also a class") {
  const Tensor logits = normal_sample({3, 4}, DType::f32, 9);
  const double expected = softmax_cross_entropy(slice_rows(logits, 0, 2), Tensor::from<int64_t>({1, 2}, {2})).item();
  for (const int64_t ignore : {int64_t{-100}, int64_t{255}, int64_t{4}, INT64_MIN, INT64_MAX, int64_t{0}})
    CHECK(softmax_cross_entropy(logits, Tensor::from<int64_t>({1, 2, ignore}, {3}), {.target = {.ignore = ignore}})
              .item() == expected);
}

TEST_CASE("a mean over nothing is 0 or NaN as asked, and its gradient is 0 either way") {
  const Tensor logits = normal_sample({2, 3}, DType::f32, 10);
  const Tensor ignored = Tensor::from<int64_t>({9, 9}, {2});
  const SoftmaxCrossEntropyOptions::Target target{.ignore = 9};
  for (const auto when_zero : {Reduction::WhenZero::zero, Reduction::WhenZero::nan}) {
    const auto [loss, gradient] =
        loss_and_gradient(logits, ignored, {.target = target, .reduction = {.when_zero = when_zero}});
    if (when_zero == Reduction::WhenZero::zero) CHECK(loss == 0);
    else CHECK(std::isnan(loss));
    CHECK(gradient == std::vector<float>(6, 0));
  }
  // Weights that are zero for the labels there are.
  const auto [loss, gradient] =
      loss_and_gradient(logits, Tensor::from<int64_t>({2, 2}, {2}), {.weights = {Tensor::from({1, 1, 0}, {3})}});
  CHECK(loss == 0);
  CHECK(gradient == std::vector<float>(6, 0));
}

TEST_CASE("a batch of no rows is legal") {
  const Tensor logits = Tensor::empty({0, 3});
  const Tensor labels = Tensor::empty({0}, DType::i64);
  CHECK(softmax_cross_entropy(logits, labels).item() == 0);
  CHECK(
      std::isnan(softmax_cross_entropy(logits, labels, {.reduction = {.when_zero = Reduction::WhenZero::nan}}).item()));
  CHECK(softmax_cross_entropy(logits, labels, {.reduction = {.kind = Kind::sum}}).item() == 0);
  CHECK(softmax_cross_entropy(logits, labels, {.reduction = {.kind = Kind::none}}).shape() == Shape{0});
  Tape tape;
  tape.watch(logits);
  CHECK(tape.backward(softmax_cross_entropy(logits, labels))[logits].shape() == Shape{0, 3});
}

TEST_CASE("the upstream gradient counts, per row and as a factor") {
  const Tensor logits = normal_sample({4, 3}, DType::f32, 11);
  const Tensor labels = Tensor::from<int64_t>({0, 2, 1, 1}, {4});
  const std::vector<float> v = {0.5f, -2, 0, 3};
  Tape tape;
  tape.watch(logits);
  const Tensor rows = softmax_cross_entropy(logits, labels, {.reduction = {.kind = Kind::none}});
  const std::vector<float> ones =
      tape.backward(rows, {.upstream = Tensor::ones({4}), .retain = true})[logits].to_vector<float>();
  const std::vector<float> each = tape.backward(rows, {.upstream = Tensor::from(v, {4})})[logits].to_vector<float>();
  for (size_t i = 0; i < each.size(); ++i) CHECK(each[i] == doctest::Approx(v[i / 3] * ones[i]));
}

TEST_CASE("ignored rows change neither the loss nor the gradient of the others, bit for bit") {
  const Tensor logits = normal_sample({6, 5}, DType::f32, 12);
  const auto [all, all_gradient] =
      loss_and_gradient(logits, Tensor::from<int64_t>({1, 2, 3, 4, -1, -1}, {6}), {.target = {.ignore = -1}});
  const Tensor first = slice_rows(logits, 0, 4).clone();
  const auto [four, four_gradient] = loss_and_gradient(first, Tensor::from<int64_t>({1, 2, 3, 4}, {4}));
  CHECK(all == four);
  CHECK(std::vector<float>(all_gradient.begin(), all_gradient.begin() + 20) == four_gradient);
}

TEST_CASE("a label out of range is an error that names row, label and classes, and guesses") {
  const Tensor logits = Tensor::zeros({4, 4});
  CHECK(label_error(logits, Tensor::from<int64_t>({0, 1, 2, 7}, {4})) ==
        "softmax_cross_entropy: row 3: label 7 is not in [0, 4) (min 0, max 7)");
  CHECK(label_error(logits, Tensor::from<int32_t>({1, 2, 3, 4}, {4})) ==
        "softmax_cross_entropy: row 3: label 4 is not in [0, 4) (labels look 1-based: min 1, max 4)");
  for (const int64_t bad : {int64_t{-1}, INT64_MIN, INT64_MAX, int64_t{1} << 32})
    CHECK(label_error(logits, Tensor::from<int64_t>({0, bad, 0, 0}, {4})).find("row 1") != std::string::npos);
}

TEST_CASE("shapes and dtypes that do not fit are errors that say what is expected") {
  const Tensor logits = Tensor::zeros({4, 3});
  CHECK_THROWS_WITH_AS(softmax_cross_entropy(logits, Tensor::zeros({4, 1}, DType::i64)),
                       "softmax_cross_entropy: labels [4, 1] must be [4], one per row of logits [4, 3] (classes on "
                       "axis 1); reshape them",
                       ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, Tensor::zeros({3}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::zeros({4, 0}), Tensor::zeros({4}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(Tensor::scalar(1), Tensor::zeros({}, DType::i64)), ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, Tensor::zeros({4})), DTypeError);
  CHECK_THROWS_AS(softmax_cross_entropy(cast(logits, DType::f16), Tensor::zeros({4}, DType::i64)), DTypeError);
  for (const int64_t count : {2, 5})
    CHECK_THROWS_AS(softmax_cross_entropy(logits, Tensor::zeros({4}, DType::i64), {.weights = {Tensor::ones({count})}}),
                    ShapeError);
}

TEST_CASE("class weights cannot want a gradient: an error, not a silent zero") {
  const Tensor logits = normal_sample({2, 3}, DType::f32, 13);
  const Tensor weights = Tensor::ones({3});
  Tape tape;
  tape.watch(logits);
  tape.watch(weights);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, Tensor::zeros({2}, DType::i64), {.weights = {weights}}), TapeError);
}

TEST_CASE("many equal rows and many equal classes keep their digits") {
  CHECK(std::abs(softmax_cross_entropy(Tensor::zeros({1 << 20, 10}), Tensor::zeros({1 << 20}, DType::u8)).item() -
                 std::numbers::ln10) < 3e-7);
  CHECK(std::abs(softmax_cross_entropy(Tensor::zeros({1, 1 << 20}), Tensor::zeros({1}, DType::u8)).item() -
                 20 * std::numbers::ln2) < 2e-6);
}
