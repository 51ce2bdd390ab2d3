// What went wrong for users of other systems, chapter numerics: overflow, cancellation, infinities, 16-bit types.
// Each case is named after the failure that must not happen here.
#include <numbers>

#include <doctest/doctest.h>

#include <xent/nn/compat/presets.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
namespace presets = compat::presets;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int64_t share = 16;  // of the sizes in what follows
#else
constexpr int64_t share = 1;
#endif

constexpr float infinity = HUGE_VALF;

Tensor shifted(const Tensor& x, double c) { return x + c; }

// Logits whose sum with 1e6 is exact: multiples of 1/16 in [-4, 4].
Tensor on_grid(const Shape& shape, uint64_t seed) {
  HostRandom random(seed);
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (float& value : values) value = (static_cast<float>(random.below(129)) - 64) / 16;
  return Tensor::from(values, shape);
}

// The spacing of a 16-bit type's numbers at x.
double ulp(double x, DType dtype) {
  const int digits = dtype == DType::bf16 ? 8 : 11;
  return std::ldexp(1, std::max(std::ilogb(x), dtype == DType::bf16 ? -126 : -14) + 1 - digits);
}

}  // namespace

TEST_CASE("F22: a probability that underflows does not make the loss infinite") {
  const auto [loss, grad] = run(Tensor::from({0, -104}, {1, 2}), labels({1}));
  CHECK(loss[0] == 104);
  CHECK(grad == std::vector<double>{1, -1});
}

TEST_CASE("F23: no epsilon caps the loss or stops the gradient") {
  const auto [loss, grad] = run(Tensor::from({300, 100, 100, -100, 200, 500}, {2, 3}), labels({0, 1}));
  CHECK(loss[0] == 150);
  CHECK(std::vector<double>(grad.begin() + 3, grad.end()) == std::vector<double>{0, -0.5, 0.5});
}

TEST_CASE("F24, F25: the largest logit is that of the row") {
  const std::vector<double> loss =
      run(Tensor::from({1000, 0, -1000, 0}, {2, 2}), labels({1, 0}), reduced(Kind::none)).loss;
  CHECK(loss == std::vector<double>{1000, 1000});
}

TEST_CASE("F26: a common offset of all logits changes nothing") {
  const Tensor x = on_grid({40, 10}, 1), y = label_sample({40}, 10, DType::i64, 2);
  for (const double c : {0.0, 1e3, 1e6, -1e6}) CHECK(std::abs(loss_of(shifted(x, c), y) - loss_of(x, y)) < 1e-6);
}

TEST_CASE("F27: a difference of logits beyond the type's range is an infinite loss with a finite gradient") {
  const auto [loss, grad] = run(Tensor::from({3e38f, -3e38f}, {1, 2}), labels({1}));
  CHECK(loss[0] == inf);
  CHECK(grad == std::vector<double>{1, -1});
  CHECK(loss_of(Tensor::from({3e38f, 3e38f}, {1, 2}), labels({0})) == doctest::Approx(std::numbers::ln2));
}

TEST_CASE("F28: a long row of -inf but for one class is no NaN, wherever that class is") {
  constexpr int64_t classes = 100'000;
  for (const int64_t place : {int64_t{0}, int64_t{1}, int64_t{50'000}, classes - 1}) {
    std::vector<float> values(classes, -infinity);
    values[static_cast<size_t>(place)] = 0;
    const auto [loss, grad] = run(Tensor::from(values, {1, classes}), labels({place}));
    CHECK(loss[0] == 0);
    CHECK(near(grad, std::vector<double>(classes), 0));
  }
}

TEST_CASE("F29: a probability of 0 times an infinite log-probability is 0, and NaN only for parity") {
  const Tensor x = Tensor::from({-infinity, 0, 1}, {1, 3}), q = Tensor::from({0, 1, 0}, {1, 3});
  CHECK(loss_of(x, q) == doctest::Approx(1.3132616).epsilon(1e-6));
  CHECK(std::isnan(loss_of(x, q, presets::torch_probabilities)));
}

TEST_CASE("F30: the gradient of a masked class is 0, whatever the preset") {
  const Tensor x = Tensor::from({-infinity, 0, 1}, {1, 3}), y = labels({1}), q = Tensor::from({0, 1, 0}, {1, 3});
  for (const auto& preset :
       {SoftmaxCrossEntropyOptions{}, presets::onnxruntime, presets::onnxruntime_cuda, presets::onnx,
        presets::onnxruntime_sparse, presets::torch, presets::mxnet, presets::tensorflow_sparse})
    CHECK(run(x, y, preset).grad[0] == 0);
  for (const auto& preset : {SoftmaxCrossEntropyOptions{}, presets::onnxruntime_dense, presets::torch_probabilities,
                             presets::composer, presets::tensorflow})
    CHECK(run(x, q, preset).grad[0] == 0);
}

TEST_CASE("F31: smoothing over a masked class is an infinite loss, as the formula says") {
  const auto [loss, grad] = run(Tensor::from({-infinity, 0, 1}, {1, 3}), labels({1}), {.target = {.smoothing = 0.1}});
  CHECK(loss[0] == inf);
  for (const double g : grad) CHECK(std::isfinite(g));
}

TEST_CASE("F32: an ignored row of NaN and infinities is not read, and its gradient is +0") {
  const float nan = std::nanf("");
  const auto [loss, grad] = run(Tensor::from({nan, nan, 0, 0, infinity, -infinity}, {3, 2}), labels({-100, 0, -100}),
                                {.target = {.ignore = -100}});
  CHECK(loss[0] == doctest::Approx(std::numbers::ln2));
  CHECK(all_plus_zero({grad[0], grad[1], grad[4], grad[5]}));
  CHECK(grad[2] == -0.5);
}

TEST_CASE("F33: a class weight of 0 on a row of NaN gives NaN") {
  const Tensor x = Tensor::from({std::nanf(""), 0, 1, 2}, {2, 2}), weights = Tensor::from({0, 1}, {2});
  CHECK(std::isnan(loss_of(x, labels({0, 1}), presets::torch, {.class_weights = weights})));
  CHECK(std::isnan(loss_of(x, labels({0, 1}), {}, {.class_weights = weights})));
}

TEST_CASE("F34: a logit of +inf gives NaN in its row and leaves the other rows alone") {
  const Tensor x = Tensor::from({infinity, 0, 1, 2}, {2, 2});
  const auto [loss, grad] = run(x, labels({0, 1}), reduced(Kind::none));
  CHECK(std::isnan(loss[0]));
  CHECK(std::isfinite(loss[1]));
  CHECK(std::isfinite(grad[2]));
  CHECK(std::isnan(loss_of(x, labels({0, 1}))));
}

TEST_CASE("F35: the gradient of a confident label keeps its digits in 16 bits") {
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const double gap : {8.0, 4.0, 12.0}) {
      CAPTURE(gap);
      const Tensor x = cast(Tensor::from<double>({gap, 0, 0.5}, {1, 3}), dtype);
      const std::vector<double> grad = run(x, labels({0})).grad;
      const double exact = reference::loss(x, labels({0})).grad_logits[0].value;
      CHECK(std::abs(grad[0] - exact) <= ulp(exact, dtype));
      CHECK(std::abs(grad[0] + grad[1] + grad[2]) <= ulp(exact, dtype));
    }
}

TEST_CASE("F36: the gradient of a row that is all but certain is not lost, though its loss may be") {
  const auto [loss, grad] = run(Tensor::from({20, 0}, {1, 2}), labels({0}));
  CHECK(loss[0] >= 0);
  CHECK(loss[0] <= 2.1e-9);
  CHECK(grad[0] == doctest::Approx(-2.0611536e-9).epsilon(1e-5));
  CHECK(grad[1] == doctest::Approx(2.0611536e-9).epsilon(1e-5));
}

TEST_CASE("F37: sums over classes are not in 16 bits") {
  const Tensor zeros = Tensor::zeros({1, 512}, DType::bf16);
  CHECK(loss_of(zeros, labels({7})) == doctest::Approx(6.2383246).epsilon(1e-7));
  CHECK(run(zeros, labels({7})).grad[0] == 1.0 / 512);
}

TEST_CASE("F38: a sum of many losses of f16 logits stays finite") {
  constexpr int64_t rows = 20'500;
  std::vector<float> values(rows * 2);
  for (size_t r = 0; r < rows; ++r) values[2 * r] = 10;
  const Tensor x = cast(Tensor::from(values, {rows, 2}), DType::f16), y = Tensor::ones({rows}, DType::u8);
  const double each = 10 + std::log1p(std::exp(-10));
  CHECK(loss_of(x, y, reduced(Kind::sum)) == doctest::Approx(rows * each).epsilon(1e-6));
  CHECK(loss_of(x, y) == doctest::Approx(each).epsilon(1e-6));
  CHECK(loss_of(x, y, {.output = {.dtype = DType::f16}}) == 10);
}

TEST_CASE("F39: counts and sums of weights are not in 16 bits") {
  for (const int64_t rows : {4'099, 70'000}) {
    const Tensor x = Tensor::zeros({rows, 2}, DType::f16), y = Tensor::ones({rows}, DType::u8);
    const LossInputs weights{.class_weights = Tensor::ones({2}, DType::f16),
                             .element_weights = Tensor::ones({rows}, DType::f16)};
    CHECK(loss_of(x, y, {}, weights) == doctest::Approx(std::numbers::ln2).epsilon(1e-7));
    CHECK(softmax_cross_entropy_outputs(x, y, {}, weights).denominator.item() == static_cast<double>(rows));
  }
}

TEST_CASE(
    "F40, F44: loss and log-probabilities have the dtype asked for, and the gradient that of the logits, on any axis") {
  for (const DType type : {DType::f16, DType::bf16, DType::f32, DType::f64})
    for (const DType out : {DType::f16, DType::bf16, DType::f32, DType::f64})
      for (const int64_t axis : {1, -1}) {
        const Tensor x = cast(normal_sample({2, 3, 3}, DType::f64, 3), type),
                     y = label_sample({2, 3}, 3, DType::i64, 4);
        Tape tape;
        tape.watch(x);
        const auto outputs =
            softmax_cross_entropy_outputs(x, y, {.axis = axis, .output = {.dtype = out, .log_probs = true}});
        CHECK(outputs.loss.dtype() == out);
        CHECK(outputs.log_probs.dtype() == out);
        CHECK(outputs.denominator.dtype() == DType::f64);
        CHECK(tape.backward(outputs.loss)[x].dtype() == type);
      }
  CHECK(softmax_cross_entropy(Tensor::zeros({1, 2}, DType::bf16), labels({0})).dtype() == DType::f32);
  CHECK(softmax_cross_entropy(Tensor::zeros({1, 2}, DType::f64), labels({0})).dtype() == DType::f64);
}

TEST_CASE("F41: a loss scale of 65536 times a weight does not overflow f16") {
  const Tensor x = cast(Tensor::from({0, 12, 0, 12}, {2, 2}), DType::f16), y = labels({1, 1});
  const Tensor weights = Tensor::full({2}, 2, DType::f16);
  const auto outputs = softmax_cross_entropy_outputs(x, y, reduced(Kind::sum), {.class_weights = weights});
  const Tensor grad = softmax_cross_entropy_grad(Tensor::scalar(65536), x, y, outputs.statistics, reduced(Kind::sum),
                                                 {.class_weights = weights});
  const double exact = 2 * 65536 / (1 + std::exp(12));
  for (const size_t i : {0, 1, 2, 3}) {
    const double g = cast(grad, DType::f64).to_vector<double>()[i];
    CHECK(std::abs(std::abs(g) - exact) <= ulp(exact, DType::f16));
  }
}

TEST_CASE("F42: small f16 gradients underflow, and a factor on the loss keeps them") {
  constexpr int64_t rows = 65'536 / share, classes = 1000;
  const Tensor x = Tensor::zeros({rows, classes}, DType::f16), y = Tensor::zeros({rows}, DType::u8);
  const double exact = 1.0 / (static_cast<double>(rows) * classes) / share;
  for (const double factor : {1.0, 65'536.0}) {
    const auto [loss, grad] = softmax_cross_entropy_with_grad(x, y, {.scale = factor / share});
    const auto* last = grad.data<Float16>() + (rows - 1) * classes;
    const auto g = static_cast<double>(static_cast<float>(last[1]));
    if (factor == 1) CHECK(g == 0);
    else CHECK(g / factor == doctest::Approx(exact).epsilon(1e-3));
  }
}

TEST_CASE("F45: a million equal classes keep their digits") {
  CHECK(std::abs(loss_of(Tensor::zeros({1, 1 << 20}), labels({5})) - 20 * std::numbers::ln2) < 2e-6);
}

TEST_CASE("F46: the error of a loss and of a gradient stays within the bound that is stated, over many random rows") {
  constexpr int64_t rows = 100'000 / share;
  const Tensor x = scale(normal_sample({rows, 8}, DType::f32, 5), 4), y = label_sample({rows}, 8, DType::u8, 6);
  const auto outputs = softmax_cross_entropy_outputs(x, y, reduced(Kind::none));
  const Tensor grad = softmax_cross_entropy_grad(Tensor::ones({rows}), x, y, outputs.statistics, reduced(Kind::none));
  const auto want = reference::loss(x, y, reduced(Kind::none));
  CHECK(reference::difference(outputs.loss, want.loss, 0x1p-23) == "");
  CHECK(reference::difference(grad, want.grad_logits, 0x1p-23) == "");
}
