// What went wrong for users of other systems, chapter reduction: empty means, weights, padding, smoothing,
// accumulation. Each case is named after the failure that must not happen here.
#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/nn/compat/presets.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
using Denominator = Reduction::Denominator;
using WhenZero = Reduction::WhenZero;
namespace presets = compat::presets;

namespace {

// Five rows of four classes, the batch of most cases.
const Tensor x = normal_sample({5, 4}, DType::f32, 1);
const Tensor y = labels({2, 0, 3, 1, 1});
const Tensor w = Tensor::from({0.5, 2, 1, 3}, {4});

std::vector<double> rows_of(const std::vector<double>& values, size_t count) {
  return {values.begin(), values.begin() + static_cast<ptrdiff_t>(count)};
}

}  // namespace

TEST_CASE("F01: a mean over ignored rows only is 0 or NaN or an error as asked, and its gradient is 0") {
  const Tensor ignored = labels({-100, -100, -100, -100, -100});
  SoftmaxCrossEntropyOptions options{.target = {.ignore = -100}};
  CHECK(run(x, ignored, options).loss[0] == 0);
  CHECK(all_plus_zero(run(x, ignored, options).grad));
  CHECK(std::isnan(run(x, ignored, presets::torch).loss[0]));
  CHECK(all_plus_zero(run(x, ignored, presets::torch).grad));
  const Tensor minus_one = labels({-1, -1, -1, -1, -1});
  for (const auto& preset : {presets::onnxruntime, presets::onnxruntime_cuda}) {
    CHECK(run(x, minus_one, preset).loss[0] == 0);
    CHECK(all_plus_zero(run(x, minus_one, preset).grad));
  }
  options.reduction.when_zero = WhenZero::error_if_not_positive;
  CHECK_THROWS_AS(softmax_cross_entropy(x, ignored, options), ArgumentError);
}

TEST_CASE("F02: a step with an empty micro-batch leaves parameters and running means as they are") {
  Generator random(1);
  Linear layer(6, 4, random);
  Sgd optimizer(layer.parameters(), {.learning_rate = 0.1, .momentum = 0});
  Mean mean_loss;
  const auto step = [&](const Tensor& target) {
    Tape tape;
    const Tensor loss =
        softmax_cross_entropy(layer(normal_sample({5, 6}, DType::f32, 2)), target, {.target = {.ignore = -1}});
    optimizer.step(tape.backward(loss));
    mean_loss.add(loss, std::ranges::count_if(target.to_vector<int64_t>(), [](int64_t label) { return label != -1; }));
  };
  step(y);
  std::vector<std::string> before;
  for (const auto& part : layer.parameters()) before.push_back(bytes_of(part.value));
  const double mean_before = mean_loss.value();
  step(labels({-1, -1, -1, -1, -1}));
  size_t i = 0;
  for (const auto& part : layer.parameters()) CHECK(bytes_of(part.value) == before[i++]);
  CHECK(mean_loss.value() == mean_before);
}

TEST_CASE("F03: weights that sum to 0 over valid labels give loss 0 and gradient 0") {
  const Tensor weights = Tensor::from({0, 2, 0, 0}, {4});
  const auto [loss, grad] = run(normal_sample({2, 4}, DType::f32, 3), labels({3, 3}), {}, {.class_weights = weights});
  CHECK(loss[0] == 0);
  CHECK(all_plus_zero(grad));
}

TEST_CASE("F04: a weighted mean is the sum divided by the denominator that is returned, for each denominator") {
  const Tensor e = Tensor::from({0.5, 0, 2, 1, 1}, {5});
  const LossInputs inputs{.class_weights = w, .element_weights = e};
  const Tensor target = labels({2, 0, 3, -1, 1});
  const double expected[] = {0.5 * 1 + 0 + 2 * 3 + 2, 1 + 0.5 + 3 + 2, 5, 3.5, 3, 4};  // as Denominator lists them
  for (int i = 0; i < 6; ++i) {
    CAPTURE(i);
    SoftmaxCrossEntropyOptions options{.target = {.ignore = -1},
                                       .reduction = {.denominator = static_cast<Denominator>(i)}};
    const auto mean = softmax_cross_entropy_outputs(x, target, options, inputs);
    CHECK(mean.denominator.item() == doctest::Approx(expected[i]).epsilon(1e-12));
    options.reduction.kind = Kind::sum;
    CHECK(mean.loss.item() == doctest::Approx(loss_of(x, target, options, inputs) / expected[i]).epsilon(1e-6));
  }
}

TEST_CASE("F05: a class weight has no effect on the mean of one row, and its full effect on the sum") {
  const Tensor row = normal_sample({1, 2}, DType::f32, 4), label = labels({0}), weights = Tensor::from({5, 1}, {2});
  CHECK(loss_of(row, label, {}, {.class_weights = weights}) == doctest::Approx(loss_of(row, label)).epsilon(1e-6));
  CHECK(loss_of(row, label, reduced(Kind::sum), {.class_weights = weights}) ==
        doctest::Approx(5 * loss_of(row, label)).epsilon(1e-6));
}

TEST_CASE("F06: one-hot and index targets agree by default, and differ as in torch with its presets") {
  std::vector<float> one_hot(20);
  const std::vector<int64_t> indices = y.to_vector<int64_t>();
  for (size_t r = 0; r < 5; ++r) one_hot[r * 4 + static_cast<size_t>(indices[r])] = 1;
  const Tensor q = Tensor::from(one_hot, {5, 4});
  for (const double smoothing : {0.0, 0.1}) {
    const SoftmaxCrossEntropyOptions options{.target = {.smoothing = smoothing}};
    const auto from_index = run(x, y, options, {.class_weights = w}), dense = run(x, q, options, {.class_weights = w});
    CHECK(dense.loss[0] == doctest::Approx(from_index.loss[0]).epsilon(1e-6));
    CHECK(near(dense.grad, from_index.grad, 1e-6));
  }
  const double sum = loss_of(x, y, reduced(Kind::sum), {.class_weights = w});
  CHECK(loss_of(x, y, presets::torch, {.class_weights = w}) ==
        doctest::Approx(sum / (1 + 0.5 + 3 + 2 + 2)).epsilon(1e-6));
  CHECK(loss_of(x, q, presets::torch_probabilities, {.class_weights = w}) == doctest::Approx(sum / 5).epsilon(1e-6));
}

TEST_CASE(
    "F07, F08: padding with ignored rows changes neither the mean nor the others' gradient, also with smoothing") {
  for (const double smoothing : {0.0, 0.2}) {
    CAPTURE(smoothing);
    const SoftmaxCrossEntropyOptions options{.target = {.ignore = -100, .smoothing = smoothing}};
    const auto [loss, grad] = run(x, y, options);
    const auto padded =
        run(concat({x, normal_sample({3, 4}, DType::f32, 5)}), labels({2, 0, 3, 1, 1, -100, -100, -100}), options);
    CHECK(padded.loss == loss);
    CHECK(rows_of(padded.grad, 20) == grad);
    CHECK(all_plus_zero({padded.grad.begin() + 20, padded.grad.end()}));
  }
}

TEST_CASE(
    "F09, F56: weights, smoothing and an ignored label of -100 together read nothing out of bounds, nor does Grad "
    "alone") {
  const SoftmaxCrossEntropyOptions options{.target = {.ignore = -100, .smoothing = 0.1}};
  const Tensor two = slice_rows(x, 0, 2), row = slice_rows(x, 1, 2);
  const LossInputs inputs{.class_weights = w.clone()};
  const auto both = run(two, labels({-100, 1}), options, inputs), one = run(row, labels({1}), options, inputs);
  CHECK(both.loss == one.loss);
  CHECK(std::vector<double>(both.grad.begin() + 4, both.grad.end()) == one.grad);
  const Tensor log_probs = log_softmax(two);
  const Tensor grad = softmax_cross_entropy_grad(Tensor::ones({}), log_probs, labels({-100, 1}), {}, options, inputs);
  CHECK(near(cast(grad, DType::f64).to_vector<double>(), both.grad, 1e-6));
}

TEST_CASE("F10: smoothing with class weights weighs every class's term, as torch does") {
  // For row r: -sum_c w_c q_c log p_c, q = 0.9 [c == y] + 0.1 / 4; divided by the weights of the labels.
  const std::vector<double> lp = cast(log_softmax(x), DType::f64).to_vector<double>(), weights = {0.5, 2, 1, 3};
  const std::vector<int64_t> label = y.to_vector<int64_t>();
  double total = 0, labels_weight = 0, whole_weight = 0;
  for (size_t r = 0; r < 5; ++r) {
    for (size_t c = 0; c < 4; ++c) {
      const double q = 0.9 * (static_cast<size_t>(label[r]) == c) + 0.025;
      total -= weights[c] * q * lp[r * 4 + c];
      whole_weight += weights[c] * q;
    }
    labels_weight += weights[static_cast<size_t>(label[r])];
  }
  SoftmaxCrossEntropyOptions options = presets::torch;
  options.target.smoothing = 0.1;
  CHECK(loss_of(x, y, options, {.class_weights = w}) == doctest::Approx(total / labels_weight).epsilon(1e-6));
  options.reduction.denominator = Denominator::weight_sum;
  CHECK(loss_of(x, y, options, {.class_weights = w}) == doctest::Approx(total / whole_weight).epsilon(1e-6));
}

TEST_CASE("F11: smoothing is (1 - eps) q + eps / classes: the mean over classes for 1, the same bits for 0") {
  const Tensor row = Tensor::from({0, 2}, {1, 2});
  CHECK(loss_of(row, labels({0}), {.target = {.smoothing = 0.1}}) ==
        doctest::Approx(0.95 * std::log(1 + std::exp(2)) + 0.05 * std::log(1 + std::exp(-2))).epsilon(1e-6));
  CHECK(loss_of(x, y, {.target = {.smoothing = 1}}) == doctest::Approx(-mean(log_softmax(x)).item()).epsilon(1e-6));
  CHECK(run(x, y, {.target = {.smoothing = 0}}).loss == run(x, y).loss);
  CHECK(run(x, y, {.target = {.smoothing = 0}}).grad == run(x, y).grad);
}

TEST_CASE("F12: smoothing divides by the number of classes, whatever axis they are on") {
  const Tensor cube = normal_sample({2, 3, 5}, DType::f32, 6);
  const SoftmaxCrossEntropyOptions::Target target{.smoothing = 0.1};
  CHECK(loss_of(Tensor::ones({2, 3, 4}), Tensor::zeros({2, 3}, DType::i64), {.target = target}) ==
        doctest::Approx(std::log(4)).epsilon(1e-6));
  const auto across = [&](std::initializer_list<int64_t> last, int64_t axis, int64_t classes, const Shape& rows) {
    const Tensor label = label_sample(rows, classes, DType::i64, 7);
    const Tensor flat = permute(cube, last).reshape({rows.elements(), classes});
    CHECK(loss_of(cube, label, {.axis = axis, .target = target}) ==
          doctest::Approx(loss_of(flat, label.reshape({rows.elements()}), {.target = target})).epsilon(1e-6));
  };
  across({1, 2, 0}, 0, 2, {3, 5});
  across({0, 2, 1}, 1, 3, {2, 5});
  across({0, 1, 2}, 2, 5, {2, 3});
}

TEST_CASE("F13: smoothing outside [0, 1] is an error that shows it, unless any smoothing is asked for") {
  for (const double bad : {-0.1, 1.5, not_a_number, inf, -inf}) {
    const std::string text =
        error_of<ArgumentError>([&] { softmax_cross_entropy(x, y, {.target = {.smoothing = bad}}); });
    CAPTURE(text);
    CHECK(text.find("softmax_cross_entropy") == 0);
    CHECK(text.find("smoothing") != std::string::npos);
  }
  CHECK(error_of<ArgumentError>([] { softmax_cross_entropy(x, y, {.target = {.smoothing = 1.5}}); }).find("1.5") !=
        std::string::npos);
  CHECK(std::isfinite(loss_of(x, y, {.target = {.smoothing = 1.5}, .parity = {.any_smoothing = true}})));
}

TEST_CASE("F14: a mean per sample averages over the rows of the sample and not over the batch") {
  const Tensor sequences = normal_sample({2, 7, 5}, DType::f32, 8), label = label_sample({2, 7}, 5, DType::i64, 9);
  const Tensor loss = softmax_cross_entropy(sequences, label, presets::mxnet);
  CHECK(loss.shape() == Shape{2});
  const std::vector<double> each = run(sequences, label, reduced(Kind::none)).loss;
  for (size_t b = 0; b < 2; ++b) {
    double total = 0;
    for (size_t i = 0; i < 7; ++i) total += each[b * 7 + i];
    CHECK(loss.to_vector<float>()[b] == doctest::Approx(total / 7).epsilon(1e-6));
  }
}

TEST_CASE("F15: a denominator of nonzero weights counts them, and weights of 0 only give 0") {
  const Tensor e = Tensor::from({2, 0, 0.5, 0, 1}, {5});
  const double sum = loss_of(x, y, reduced(Kind::sum), {.element_weights = e});
  CHECK(loss_of(x, y, presets::tensorflow_sparse, {.element_weights = e}) == doctest::Approx(sum / 3).epsilon(1e-6));
  const auto [loss, grad] = run(x, y, presets::tensorflow_sparse, {.element_weights = Tensor::zeros({5})});
  CHECK(loss[0] == 0);
  CHECK(near(grad, std::vector<double>(20), 0));
}

TEST_CASE("F16: micro-batches with the whole batch's denominator as normalizer add up to its gradient") {
  const Tensor batch = normal_sample({12, 4}, DType::f64, 10);
  const Tensor target = labels({1, -1, 0, 3, -1, -1, 2, 2, -1, 0, 1, -1});
  const Tensor weights = cast(w, DType::f64);
  const SoftmaxCrossEntropyOptions options{.target = {.ignore = -1, .smoothing = 0.1}};
  const auto whole = run(batch, target, options, {.class_weights = weights});
  Tensor normalizer = Tensor::scalar(0, DType::f64);
  for (const auto& [begin, end] : {std::pair{0, 7}, {7, 12}})
    normalizer = normalizer + softmax_cross_entropy_denominator({end - begin, 4}, slice_rows(target, begin, end),
                                                                options, {.class_weights = weights});
  Computed parts{{0}, {}};
  for (const auto& [begin, end] : {std::pair{0, 7}, {7, 12}}) {
    const auto part = run(slice_rows(batch, begin, end), slice_rows(target, begin, end), options,
                          {.class_weights = weights, .normalizer = normalizer});
    parts.loss[0] += part.loss[0];
    parts.grad.insert(parts.grad.end(), part.grad.begin(), part.grad.end());
  }
  CHECK(near(parts.loss, whole.loss, 1e-14));
  CHECK(near(parts.grad, whole.grad, 1e-15));
}

TEST_CASE("F17: the reduction that is asked for is the one computed") {
  const std::vector<double> each = run(x, y, reduced(Kind::none)).loss;
  const double sum = each[0] + each[1] + each[2] + each[3] + each[4];
  CHECK(each.size() == 5);
  CHECK(loss_of(x, y, reduced(Kind::sum)) == doctest::Approx(sum).epsilon(1e-6));
  CHECK(loss_of(x, y, reduced(Kind::mean)) == doctest::Approx(sum / 5).epsilon(1e-6));
  CHECK(run(x, y, reduced(Kind::sample_mean)).loss == each);
}

TEST_CASE("F18: the upstream gradient of every row arrives at its logits") {
  const std::vector<float> v = {0.5f, -2, 0, 3, 1};
  for (const bool on_tape : {true, false}) {
    std::vector<float> grad;
    if (on_tape) {
      Tape tape;
      tape.watch(x);
      grad = tape.backward(sum(softmax_cross_entropy(x, y, reduced(Kind::none)) * Tensor::from(v, {5})))[x]
                 .to_vector<float>();
    } else {
      const Tensor statistics = softmax_cross_entropy_outputs(x, y, reduced(Kind::none)).statistics;
      grad = softmax_cross_entropy_grad(Tensor::from(v, {5}), x, y, statistics, reduced(Kind::none)).to_vector<float>();
    }
    const std::vector<double> ones = run(x, y, reduced(Kind::none)).grad;
    for (size_t i = 0; i < grad.size(); ++i) CHECK(grad[i] == doctest::Approx(v[i / 4] * ones[i]).epsilon(1e-6));
  }
}

TEST_CASE("F19: a factor on the loss is one on the gradient, and a factor of 0 gives 0 although a class is -inf") {
  for (const Kind kind : {Kind::sum, Kind::mean}) {
    Tape tape;
    tape.watch(x);
    const std::vector<float> grad =
        tape.backward(scale(softmax_cross_entropy(x, y, reduced(kind)), 3))[x].to_vector<float>();
    const std::vector<double> once = run(x, y, reduced(kind)).grad;
    for (size_t i = 0; i < grad.size(); ++i) CHECK(grad[i] == doctest::Approx(3 * once[i]).epsilon(1e-6));
  }
  const Tensor masked = Tensor::from({-HUGE_VALF, 0, 1, -HUGE_VALF, 2, 3}, {2, 3});
  Tape tape;
  tape.watch(masked);
  const Tensor loss = softmax_cross_entropy(masked, labels({1, 0}));
  CHECK(loss.item() == inf);
  for (const float g : tape.backward(loss, {.upstream = Tensor::scalar(0)})[masked].to_vector<float>()) CHECK(g == 0);
}

TEST_CASE("F20: many equal rows keep their digits") {
#if defined(__SANITIZE_ADDRESS__)
  constexpr int64_t rows = 1 << 18;
#else
  constexpr int64_t rows = 1 << 24;
#endif
  const Tensor logits = Tensor::zeros({rows, 10}, DType::f16);
  CHECK(std::abs(loss_of(logits, Tensor::zeros({rows}, DType::u8)) - std::log(10)) < 3e-7);
}

TEST_CASE("F21: loss and gradient have the same bits for any number of threads") {
  const Tensor logits = normal_sample({3000, 37}, DType::f32, 11), label = label_sample({3000}, 37, DType::i32, 12);
  const int before = threads();
  set_threads(1);
  const auto one = run(logits, label);
  for (const int count : {2, 3, 8}) {
    set_threads(count);
    const auto more = run(logits, label);
    CHECK(more.loss == one.loss);
    CHECK(more.grad == one.grad);
  }
  set_threads(before);
}
