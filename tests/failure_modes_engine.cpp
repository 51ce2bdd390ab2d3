// What went wrong for users of other systems, chapter autograd and engine: clobbered logits, second backward, targets'
// gradients, memory, reproducibility. Each case is named after the failure that must not happen here.
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include <doctest/doctest.h>

#include <xent/nn/compat/presets.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
using DenseGrad = SoftmaxCrossEntropyOptions::Parity::DenseGrad;
namespace presets = compat::presets;

namespace {

const Tensor y = labels({2, 0, 1});

Tensor logits(uint64_t seed) { return normal_sample({3, 4}, DType::f32, seed); }
std::vector<double> values(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

}  // namespace

TEST_CASE("F77: logits that somebody else uses are not overwritten by their gradient") {
  const Tensor z = logits(1);
  const std::vector<double> of_loss = run(tanh(z), y).grad;
  Tape tape;
  tape.watch(z);
  const Tensor h = tanh(z);
  const std::string before = bytes_of(h);
  const Tensor total = softmax_cross_entropy(h, y) + sum(h);
  const std::vector<float> grad = tape.backward(total)[z].to_vector<float>(), t = h.to_vector<float>();
  CHECK(bytes_of(h) == before);
  for (size_t i = 0; i < grad.size(); ++i)
    CHECK(grad[i] == doctest::Approx((of_loss[i] + 1) * (1 - static_cast<double>(t[i]) * t[i])).epsilon(1e-5));
}

TEST_CASE("F77: with_grad takes the place of logits that nobody else holds, and only of those") {
  const Tensor x = logits(2);
  const auto [loss, grad] = run(x, y);
  Tensor own = x.clone();
  const void* bytes = own.raw();
  const LossAndGrad in_place = softmax_cross_entropy_with_grad(std::move(own), y);
  CHECK(in_place.grad.raw() == bytes);
  CHECK(values(in_place.grad) == grad);
  CHECK(values(in_place.loss) == loss);

  Tensor shared = x.clone();
  const Tensor other = shared, view = shared.view({4}, 2);
  const std::string before = bytes_of(other);
  CHECK(values(softmax_cross_entropy_with_grad(std::move(shared), y).grad) == grad);
  CHECK(bytes_of(other) == before);
  Tensor kept = x.clone();
  CHECK(values(softmax_cross_entropy_with_grad(kept, y).grad) == grad);
  CHECK(bytes_of(kept) == before);
}

TEST_CASE("F77: with_grad does not take the place of logits that a tape keeps") {
  const Tensor w = logits(3);
  Tape tape;
  tape.watch(w);
  Tensor h = tanh(w);  // its backward reads h
  const Tensor total = sum(h);
  h = Tensor(h);
  softmax_cross_entropy_with_grad(std::move(h), y);
  std::vector<float> grad;
  CHECK_NOTHROW(grad = tape.backward(total)[w].to_vector<float>());
  const std::vector<float> expected = w.to_vector<float>();
  for (size_t i = 0; i < grad.size(); ++i) {
    const double t = std::tanh(expected[i]);
    CHECK(grad[i] == doctest::Approx(1 - t * t).epsilon(1e-5));
  }
}

TEST_CASE("F77: logits that were updated since the forward pass are an error in backward") {
  for (const Kind kind : {Kind::none, Kind::mean}) {
    Tensor x = logits(4);
    Tape tape;
    tape.watch(x);
    const Tensor loss = softmax_cross_entropy(x, y, reduced(kind));
    const std::vector<double> before = run(x, y, reduced(kind)).grad;
    x.fill(0);
    std::vector<double> grad = before;
    try {  // a gradient that forward has made already is still right
      grad = values(tape.backward(loss, {.upstream = Tensor::ones(loss.shape())})[x]);
    } catch (const TapeError&) {
    }
    CHECK(grad == before);
  }
}

TEST_CASE("F78: a second backward gives the same bits with retain, and is an error without") {
  for (const Kind kind : {Kind::none, Kind::sum, Kind::mean}) {
    const Tensor x = logits(5);
    Tape tape;
    tape.watch(x);
    const Tensor loss = softmax_cross_entropy(x, y, reduced(kind));
    const BackwardOptions again{.upstream = Tensor::full(loss.shape(), 2), .retain = true};
    const std::vector<double> first = values(tape.backward(loss, again)[x]);
    CHECK(values(tape.backward(loss, again)[x]) == first);
    const std::vector<double> half = values(tape.backward(loss, {.upstream = Tensor::ones(loss.shape())})[x]);
    for (size_t i = 0; i < first.size(); ++i) CHECK(first[i] == doctest::Approx(2 * half[i]).epsilon(1e-6));
    CHECK_THROWS_AS(tape.backward(loss, {.upstream = Tensor::ones(loss.shape())}), TapeError);
  }
}

TEST_CASE("F78: a gradient that was handed out is not changed by the next backward") {
  const Tensor x = logits(6);
  Tape tape;
  tape.watch(x);
  const Tensor loss = softmax_cross_entropy(x, y);
  const Gradients first = tape.backward(loss, {.retain = true});
  const std::string before = bytes_of(first[x]);
  const Gradients second = tape.backward(loss, {.upstream = Tensor::scalar(-3)});
  CHECK(bytes_of(first[x]) == before);
}

TEST_CASE("F79: a gradient of a gradient is an error and never a wrong number") {
  const Tensor x = logits(7);
  Tape outer;
  outer.watch(x);
  Tensor grad;
  {
    Tape inner;
    inner.watch(x);
    grad = inner.backward(softmax_cross_entropy(x, y))[x];
  }
  CHECK_THROWS_AS(outer.backward(sum(grad * grad)), TapeError);
}

TEST_CASE("F80: a distribution gets its gradient, -log p and what the denominator brings") {
  const Tensor x = normal_sample({3, 4}, DType::f64, 8), q = softmax(normal_sample({3, 4}, DType::f64, 9));
  const Tensor w = Tensor::from<double>({0.5, 2, 1, 3}, {4});
  for (const auto& options :
       {SoftmaxCrossEntropyOptions{.target = {.smoothing = 0.1}}, presets::torch_probabilities, presets::composer}) {
    Tape tape;
    tape.watch(q);
    const Tensor loss = softmax_cross_entropy(x, q, options, {.class_weights = w});
    const auto want = reference::loss(x, q, options, {.class_weights = w});
    CHECK(reference::difference(tape.backward(loss)[q], want.grad_target, 0x1p-50) == "");
  }
  const GradientReport report = check_gradients(
      [&](std::span<const Tensor> in) {
        return softmax_cross_entropy(in[0], in[1], {.target = {.smoothing = 0.1}}, {.element_weights = in[2]});
      },
      {x, q, Tensor::from<double>({1, 0.5, 2}, {3})});
  CHECK_MESSAGE(report.passed, report.message);
}

TEST_CASE("F80: class weights cannot want a gradient: an error, not a silent zero") {
  const Tensor x = logits(10), w = Tensor::ones({4});
  Tape tape;
  tape.watch(x);
  tape.watch(w);
  CHECK_THROWS_AS(softmax_cross_entropy(x, y, {}, {.class_weights = w}), TapeError);
}

TEST_CASE("F81: rows of a target that do not sum to 1 get the exact gradient, or p - q where that is asked for") {
  const Tensor x = logits(11);
  const Tensor q = Tensor::from({0, 0, 0, 0, 0.5, 0.5, 1, 0, 0.25, 0, 0.25, 0}, {3, 4});  // sums 0, 2, 0.5
  const double sums[] = {0, 2, 0.5};
  const std::vector<double> p = values(softmax(x)), target = values(q);
  const auto exact = run(x, q, reduced(Kind::sum));
  SoftmaxCrossEntropyOptions assume = reduced(Kind::sum);
  assume.parity.dense_grad = DenseGrad::prob_minus_target;
  const auto assumed = run(x, q, assume);
  CHECK(assumed.loss == exact.loss);
  for (size_t i = 0; i < 12; ++i) {
    CHECK(std::abs(exact.grad[i] - (sums[i / 4] * p[i] - target[i])) < 1e-6);
    CHECK(std::abs(assumed.grad[i] - (p[i] - target[i])) < 1e-6);
  }
}

TEST_CASE("F81, F82: a distribution that is none is an error when validated") {
  const Tensor x = logits(12);
  const auto row = [](float a, float b) {
    return Tensor::from({a, b, 0, 0, 0, 1, 0, 0, 0.25, 0.25, 0.25, 0.25}, {3, 4});
  };
  const SoftmaxCrossEntropyOptions validate{.validate = true};
  CHECK_NOTHROW(softmax_cross_entropy(x, row(0.5, 0.5), validate));
  for (const Tensor& bad : {row(0, 0), row(1, 1), row(-0.5, 1.5), row(std::nanf(""), 1), row(HUGE_VALF, 0)}) {
    const std::string text = error_of<ArgumentError>([&] { softmax_cross_entropy(x, bad, validate); });
    CHECK(text.find("row 0") != std::string::npos);
    CHECK_NOTHROW(softmax_cross_entropy(x, bad));
  }
}

TEST_CASE("F83: log-probabilities are an input of their own, of which no softmax is taken") {
  const Tensor x = logits(13);
  const SoftmaxCrossEntropyOptions options{.input = SoftmaxCrossEntropyOptions::Input::log_probs};
  CHECK(loss_of(log_softmax(x), y, options) == doctest::Approx(loss_of(x, y)).epsilon(1e-6));
  const Tensor any = Tensor::from({-1, -2, -3, -4, 5, 6, 7, 8, 0, 0, 0, 0}, {3, 4});
  const auto [loss, grad] = run(any, y, options);
  CHECK(loss[0] == doctest::Approx((3.0 - 5 - 0) / 3).epsilon(1e-6));
  const float third = -1.0f / 3;
  CHECK(near(grad, {0, 0, third, 0, third, 0, 0, 0, 0, third, 0, 0}, 1e-7));
}

TEST_CASE("F83: probabilities that are passed as logits are told when validated") {
  const auto warned = [](const Tensor& x, bool validate) {
    const std::string text = warnings_of([&] { softmax_cross_entropy(x, y, {.validate = validate}); });
    return text.find("softmax") != std::string::npos;
  };
  CHECK(warned(softmax(logits(14)), true));
  CHECK_FALSE(warned(softmax(logits(14)), false));
  CHECK_FALSE(warned(logits(14), true));
}

TEST_CASE("F84: nothing of the logits' size is stored but the gradient") {
  // tests/loss_memory.cpp asks this of every way to call.
  constexpr int64_t rows = 4096, classes = 256;
  const Tensor x = Tensor::zeros({rows, classes}), target = Tensor::zeros({rows}, DType::u8);
  const size_t before = memory_stats().live_bytes;
  reset_peak_memory();
  run(slice_rows(x, 0, 2), slice_rows(target, 0, 2));
  {
    Tape tape;
    tape.watch(x);
    const Tensor loss = softmax_cross_entropy(x, target);
    const Gradients gradients = tape.backward(loss);
  }
  CHECK(memory_stats().peak_live_bytes <= before + x.bytes() + 8 * rows + 4096);
}

TEST_CASE("F85: log-probabilities that are returned bring a gradient") {
  const Tensor x = logits(14);
  Tape tape;
  tape.watch(x);
  const auto outputs = softmax_cross_entropy_outputs(x, y, {.output = {.log_probs = true}});
  const std::vector<double> p = values(softmax(x)), grad = values(tape.backward(sum(outputs.log_probs))[x]);
  for (size_t i = 0; i < 12; ++i) CHECK(grad[i] == doctest::Approx(1 - 4 * p[i]).epsilon(1e-5));
}

TEST_CASE("F85: gradients from the loss and from the log-probabilities add up") {
  const Tensor x = logits(15);
  std::vector<double> both, alone;
  for (const bool together : {true, false}) {
    Tape tape;
    tape.watch(x);
    const auto outputs = softmax_cross_entropy_outputs(x, y, {.output = {.log_probs = true}});
    const Tensor from_log_probs = sum(outputs.log_probs * outputs.log_probs);
    (together ? both : alone) = values(tape.backward(together ? outputs.loss + from_log_probs : from_log_probs)[x]);
  }
  const std::vector<double> of_loss = run(x, y).grad;
  for (size_t i = 0; i < 12; ++i) CHECK(std::abs(both[i] - alone[i] - of_loss[i]) < 1e-5);
}

TEST_CASE("F86: a hundred runs give the same bits") {
  const Tensor x = normal_sample({700, 33}, DType::f32, 16), target = label_sample({700}, 33, DType::i64, 17);
  const LossInputs inputs{.class_weights = positive_sample({33}, DType::f32, 18)};
  const auto first = run(x, target, {.target = {.ignore = 3}}, inputs);
  for (int i = 0; i < 100; ++i) {
    const auto next = run(x, target, {.target = {.ignore = 3}}, inputs);
    CHECK(next.loss == first.loss);
    CHECK(next.grad == first.grad);
  }
}

TEST_CASE("F88: no code of the library ends the process or prints") {
  const std::regex bad(R"((^|[^\w.:>"])(std::)?(abort|_Exit|quick_exit|exit|assert|terminate|printf|puts)\s*\()"),
      output(R"(std::(cout|cerr|clog))");
  int files = 0;
  for (const char* folder : {"core", "ops", "nn"})
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::string(XENT_SOURCE_DIR) + "/" + folder)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      std::ifstream file(entry.path());
      ++files;
      for (std::string line; std::getline(file, line);) {
        const std::string code = line.substr(0, line.find("//"));
        CAPTURE(entry.path().string());
        CAPTURE(code);
        CHECK_FALSE(std::regex_search(code, bad));
        CHECK_FALSE(std::regex_search(code, output));
      }
    }
  CHECK(files > 50);
}
