// The checker is checked: it must find wrong gradients, not only pass right ones.
#include <cmath>
#include <limits>
#include <string>

#include <doctest/doctest.h>

#include <xent/core/dispatch.h>
#include <xent/xent.h>

using namespace xent;

namespace {

// square with a planted mistake in its backward, one per instantiation.
enum class Mistake { none, factor, sign, forgets_first, ignores_beta, zero, nan };

Specs same(std::span<const Spec> in, const Attrs&) { return {in[0]}; }
Samples samples(DType dtype) {
  return {{{Tensor::from<double>({0.3, -1.2, 0.7, 2.1, -0.4}, {5})}, {}}, {{Tensor::full({2, 2}, 0.5, dtype)}, {}}};
}

void square(const Call& call) {
  for (int64_t i = 0; i < call.in[0].shape.elements(); ++i)
    call.out[0].as<double>()[i] = call.in[0].as<double>()[i] * call.in[0].as<double>()[i];
}

template <Mistake mistake>
void square_grad(const Call& call) {
  const double* x = call.in[0].as<double>();
  const double* dy = call.grad_out[0].as<double>();
  double* dx = call.grad_in[0].as<double>();
  for (int64_t i = 0; i < call.in[0].shape.elements(); ++i) {
    double value = 2 * x[i] * dy[i];
    if (mistake == Mistake::factor) value = 2.001 * x[i] * dy[i];
    if (mistake == Mistake::sign && i == 3) value = -value;
    if (mistake == Mistake::zero) value = 0;
    if (mistake == Mistake::nan && i == 1) value = std::numeric_limits<double>::quiet_NaN();
    if (mistake == Mistake::forgets_first && i == 0) continue;
    const bool add = call.grad_in[0].beta != 0 && mistake != Mistake::ignores_beta;
    dx[i] = add ? dx[i] + value : value;
  }
}

template <Mistake mistake>
constinit const Op planted = {.name = "planted",
                              .formula = "y = x^2",
                              .infer = same,
                              .forward = {square},
                              .backward = {square_grad<mistake>},
                              .accumulates = true,
                              .samples = samples};

}  // namespace

TEST_CASE("check_op passes a right gradient") {
  const GradientReport report = check_op(planted<Mistake::none>);
  CHECK_MESSAGE(report.passed, report.message);
  CHECK(report.worst_error < 1e-9);
}

TEST_CASE("check_op finds 2.001 in the place of 2") {
  const GradientReport report = check_op(planted<Mistake::factor>);
  CHECK(!report);
  CHECK(report.message.find("planted, sample 0, input 0 [5]") != std::string::npos);
}

TEST_CASE("check_op finds a wrong sign in one element") { CHECK(!check_op(planted<Mistake::sign>)); }
TEST_CASE("check_op finds an element that is never written") { CHECK(!check_op(planted<Mistake::forgets_first>)); }
TEST_CASE("check_op finds a kernel that ignores beta") { CHECK(!check_op(planted<Mistake::ignores_beta>)); }
TEST_CASE("check_op finds a gradient that is always zero") { CHECK(!check_op(planted<Mistake::zero>)); }
TEST_CASE("check_op finds a NaN") { CHECK(!check_op(planted<Mistake::nan>)); }

namespace {

// product, whose gradient for a is right only if b wants one as well.
void product(const Call& call) {
  call.out[0].as<double>()[0] = call.in[0].as<double>()[0] * call.in[1].as<double>()[0];
}
void product_grad(const Call& call) {
  const double dy = call.grad_out[0].as<double>()[0], a = call.in[0].as<double>()[0], b = call.in[1].as<double>()[0];
  if (call.grad_in[0]) call.grad_in[0].as<double>()[0] = call.grad_in[1] ? dy * b : 0;
  if (call.grad_in[1]) call.grad_in[1].as<double>()[0] = dy * a;
}
Samples two_numbers(DType) { return {{{Tensor::from<double>({2}, {1}), Tensor::from<double>({3}, {1})}, {}}}; }
constinit const Op product_op = {.name = "product",
                                 .formula = "y = a b",
                                 .inputs = 2,
                                 .infer = same,
                                 .forward = {product},
                                 .backward = {product_grad},
                                 .samples = two_numbers};

}  // namespace

TEST_CASE("check_op finds a gradient that is right only if another one is wanted too") {
  const GradientReport report = check_op(product_op);
  CHECK(!report);
  CHECK(report.message.find("no other input wants one") != std::string::npos);
}

TEST_CASE("a check that throws leaves threads and replay as they were") {
  static constinit const Op op = {.name = "throws",
                                  .formula = "",
                                  .infer = same,
                                  .forward = {[](const Call&) { throw ShapeError("no"); }},
                                  .backward = {square_grad<Mistake::none>},
                                  .samples = samples};
  set_threads(2);
  set_replay(Replay::off);
  CHECK_THROWS_AS(check_op(op), ShapeError);
  CHECK_THROWS_AS(check_replay(op), ShapeError);
  CHECK(threads() == 2);
  CHECK(replay() == Replay::off);
  set_replay(Replay::on);
}

TEST_CASE("check_op refuses an op without samples or without a backward") {
  static constinit const Op bare = {.name = "bare", .formula = "", .infer = same, .forward = {square}};
  CHECK_THROWS_AS(check_op(bare), ArgumentError);
  static constinit const Op forward_only = {
      .name = "forward_only", .formula = "", .infer = same, .forward = {square}, .samples = samples};
  CHECK_THROWS_AS(check_op(forward_only), ArgumentError);
}

TEST_CASE("check_gradients checks a whole function, and finds a detached part") {
  const std::vector<Tensor> inputs = {Tensor::from<double>({0.5, -1, 2, 0.1, 0.2, -0.3}, {2, 3}),
                                      Tensor::from<double>({1, 2, 3}, {3})};
  const auto f = [](std::span<const Tensor> in) { return sum(tanh(in[0] * in[1]) + in[1]); };
  const GradientReport right = check_gradients(f, inputs);
  CHECK_MESSAGE(right.passed, right.message);
  const auto detached = [](std::span<const Tensor> in) { return sum(in[0] * in[0].detach()); };
  CHECK(!check_gradients(detached, {inputs[0]}));
}

TEST_CASE("check_gradients takes f64 only") {
  CHECK_THROWS_AS(check_gradients([](std::span<const Tensor> in) { return sum(in[0]); }, {Tensor::ones({2})}),
                  DTypeError);
}

namespace {

// A kernel that draws on the number of calls, so that a replay differs.
void impure(const Call& call) {
  static double calls = 0;
  call.out[0].as<float>()[0] = static_cast<float>(++calls);
}
Samples one_float(DType dtype) { return {{{Tensor::ones({1}, dtype)}, {}}}; }

}  // namespace

TEST_CASE("check_replay finds an op whose result is not its inputs' alone") {
  static constinit const Op op = {
      .name = "impure", .formula = "", .infer = same, .forward = {impure}, .samples = one_float};
  CHECK(!check_replay(op));
}
