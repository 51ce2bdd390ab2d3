// Elementwise ops: values at ordinary and at extreme points, derivatives in closed form, what is kept, what is refused.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/tape.h>
#include <xent/ops/ops.h>

using namespace xent;

namespace {

using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Function = Tensor (*)(const Tensor&);

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

template <class T>
Tensor line(const std::vector<T>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

Doubles values(const Tensor& x) { return x.to_vector<double>(); }

// The gradient of u . f(x).
Doubles gradient(Function f, const Doubles& x, const Doubles& u) {
  const Tensor input = line(x);
  Tape tape;
  tape.watch(input);
  return values(tape.backward(f(input), {.upstream = line(u)})[input]);
}

void check_near(const Doubles& actual, const Doubles& expected, double tolerance) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(tolerance));
  }
}

const Doubles points = {-30, -2.5, -1, -0.125, 0, 0.125, 1, 2.5, 30};
const Doubles upstream = {1, -2, 3, 0.5, 1, -1, 2, 4, -0.25};

// f and its derivative in doubles, at the points and for floats as well.
void check_function(Function op, double (*f)(double), double (*df)(double), double tolerance = 1e-14) {
  Doubles expected, slopes;
  Floats single;
  for (size_t i = 0; i < points.size(); ++i) {
    expected.push_back(f(points[i]));
    slopes.push_back(upstream[i] * df(points[i]));
    single.push_back(static_cast<float>(points[i]));
  }
  check_near(values(op(line(points))), expected, tolerance);
  check_near(gradient(op, points, upstream), slopes, tolerance);
  const Floats actual = op(line(single)).to_vector<float>();
  check_near(Doubles(actual.begin(), actual.end()), expected, 3e-7);
}

// The bits of f and of its gradient on more elements than one chunk holds.
std::vector<Floats> many(Function f) {
  HostRandom random(5);
  Floats numbers(100003);
  for (float& number : numbers) number = static_cast<float>(0.5 + random.uniform());
  const Tensor x = line(numbers);
  Tape tape;
  tape.watch(x);
  const Tensor y = f(x);
  return {y.to_vector<float>(), tape.backward(y, {.upstream = x})[x].to_vector<float>()};
}

}  // namespace

// ---- values and derivatives ----

TEST_CASE("relu is max(x, 0) and lets the gradient through where x is positive") {
  check_function(
      relu, [](double x) { return x > 0 ? x : 0; }, [](double x) { return x > 0 ? 1.0 : 0.0; });
}

TEST_CASE("tanh has the derivative 1 - tanh^2") {
  check_function(
      tanh, [](double x) { return std::tanh(x); }, [](double x) { return 1 / (std::cosh(x) * std::cosh(x)); }, 1e-9);
}

TEST_CASE("sigmoid has the derivative sigmoid(x) sigmoid(-x)") {
  check_function(
      sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); },
      [](double x) { return 1 / (1 + std::exp(-x)) / (1 + std::exp(x)); }, 1e-9);
}

TEST_CASE("gelu is x times the normal distribution function") {
  check_function(
      gelu, [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); },
      [](double x) {
        return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
      });
  CHECK(gelu(line(Doubles{1})).item() == doctest::Approx(0.8413447460685429).epsilon(1e-15));
  const double far = gelu(line(Doubles{-10})).item();  // by 1 + erf it would be 0
  CHECK(far / -7.619853024160527e-23 == doctest::Approx(1).epsilon(1e-13));
}

TEST_CASE("exp is its own derivative") {
  check_function(
      exp, [](double x) { return std::exp(x); }, [](double x) { return std::exp(x); });
}

TEST_CASE("log has the derivative 1/x") {
  const Doubles x = {0.25, 1, 3, 1e10}, u = {1, 2, -3, 1e10};
  check_near(values(log(line(x))), {std::log(0.25), 0, std::log(3.0), std::log(1e10)}, 1e-15);
  check_near(gradient(log, x, u), {4, 2, -1, 1}, 1e-15);
}

TEST_CASE("sqrt has the derivative 1 / (2 sqrt(x))") {
  const Doubles x = {0.25, 1, 2, 1e10}, u = {1, 2, -3, 1e5};
  check_near(values(sqrt(line(x))), {0.5, 1, std::sqrt(2.0), 1e5}, 1e-15);
  check_near(gradient(sqrt, x, u), {1, 1, -1.5 / std::sqrt(2.0), 0.5}, 1e-15);
}

TEST_CASE("scale multiplies, shift adds; the gradient is scaled and passed on") {
  const Doubles x = {1, -2, 0.5}, u = {3, 4, -5};
  CHECK(values(scale(line(x), -2.5)) == Doubles{-2.5, 5, -1.25});
  CHECK(values(shift(line(x), 0.75)) == Doubles{1.75, -1.25, 1.25});
  CHECK(gradient([](const Tensor& y) { return scale(y, -2.5); }, x, u) == Doubles{-7.5, -10, 12.5});
  CHECK(gradient([](const Tensor& y) { return shift(y, 0.75); }, x, u) == u);
}

TEST_CASE("operators with numbers are scale and shift") {
  const Tensor x = line(Doubles{1, -2});
  CHECK(values(x + 1.0) == Doubles{2, -1});
  CHECK(values(x - 1.0) == Doubles{0, -3});
  CHECK(values(x * 3.0) == Doubles{3, -6});
  CHECK(values(x / 4.0) == Doubles{0.25, -0.5});
  CHECK(values(1.0 + x) == Doubles{2, -1});
  CHECK(values(1.0 - x) == Doubles{0, 3});
  CHECK(values(3.0 * x) == Doubles{3, -6});
  CHECK(values(-x) == Doubles{-1, 2});
}

// ---- extreme points ----

TEST_CASE("a NaN stays a NaN in every elementwise op") {
  const Tensor x = line(Doubles{not_a_number});
  for (const Tensor& y : {relu(x), tanh(x), sigmoid(x), gelu(x), exp(x), log(x), sqrt(x), scale(x, 0), shift(x, 1)})
    CHECK(std::isnan(y.item()));
}

TEST_CASE("infinities have the functions' limits") {
  const Tensor x = line(Doubles{-infinity, infinity});
  CHECK(values(relu(x)) == Doubles{0, infinity});
  CHECK(values(tanh(x)) == Doubles{-1, 1});
  CHECK(values(sigmoid(x)) == Doubles{0, 1});
  CHECK(values(gelu(x)) == Doubles{0, infinity});
  CHECK(values(exp(x)) == Doubles{0, infinity});
  CHECK(values(shift(x, 1)) == Doubles{-infinity, infinity});
  CHECK(values(scale(x, -2)) == Doubles{infinity, -infinity});
}

TEST_CASE("at infinities the saturated gradients are finite") {
  const Doubles x = {-infinity, infinity}, u = {1, 1};
  CHECK(gradient(relu, x, u) == Doubles{0, 1});
  CHECK(gradient(tanh, x, u) == Doubles{0, 0});
  CHECK(gradient(sigmoid, x, u) == Doubles{0, 0});
  CHECK(gradient(gelu, x, u) == Doubles{0, 1});
}

TEST_CASE("relu of -0 is +0") { CHECK(!std::signbit(relu(line(Doubles{-0.0})).item())); }

TEST_CASE("sigmoid neither overflows nor loses its small values") {
  const Floats y = sigmoid(line(Floats{-1000, -100, -90, 90, 1000})).to_vector<float>();
  CHECK(y[0] == 0);
  CHECK(y[1] == std::exp(-100.0f));  // subnormal: 1 / (1 + exp(100)) would be 0
  CHECK(y[1] > 0);
  CHECK(y[2] / std::exp(-90.0) == doctest::Approx(1).epsilon(1e-5));
  CHECK(y[3] == 1);
  CHECK(y[4] == 1);
}

TEST_CASE("sqrt of less than 0 is NaN, and at 0 its slope is infinite") {
  CHECK(std::isnan(sqrt(line(Doubles{-1})).item()));
  CHECK(sqrt(line(Doubles{infinity})).item() == infinity);
  CHECK(gradient(sqrt, {0}, {1})[0] == infinity);
}

TEST_CASE("log of 0 is -infinity and log of less is NaN") {
  CHECK(log(line(Doubles{0})).item() == -infinity);
  CHECK(std::isnan(log(line(Doubles{-1})).item()));
}

TEST_CASE("an empty tensor gives an empty tensor, forward and backward") {
  for (Function f : {Function(relu), Function(gelu), Function([](const Tensor& x) { return scale(x, 2); })}) {
    const Tensor x = Tensor::zeros({0, 4});
    Tape tape;
    tape.watch(x);
    const Tensor y = f(x);
    CHECK(y.shape() == Shape{0, 4});
    CHECK(tape.backward(y, {.upstream = y})[x].shape() == Shape{0, 4});
  }
}

// ---- memory, threads, errors ----

TEST_CASE("backward keeps the output, the input, or nothing") {
  const Tensor x = line(Doubles{1, 2, 3, 4});
  const auto kept = [&](Function f) {
    const Tensor input = scale(x, 1);  // not the leaf itself: nobody else holds its bytes
    Tape tape;
    tape.watch(input);
    const Tensor y = f(input);
    return tape.kept_bytes();
  };
  CHECK(kept(relu) == 32);
  CHECK(kept([](const Tensor& input) { return exp(tanh(input)); }) == 64);
  CHECK(kept(log) == 32);
  CHECK(kept(sqrt) == 32);
  CHECK(kept([](const Tensor& input) { return scale(shift(input, 1), 2); }) == 0);
}

TEST_CASE("the shape stays, also of scalars") {
  CHECK(relu(Tensor::ones({2, 1, 3})).shape() == Shape{2, 1, 3});
  CHECK(exp(Tensor::scalar(0)).shape() == Shape{});
}

TEST_CASE("one, two and three threads give the same bits") {
  const int before = threads();
  for (Function f : {Function(relu), Function(tanh), Function(gelu), Function(log), Function(sqrt)}) {
    set_threads(1);
    const std::vector<Floats> one = many(f);
    for (const int count : {2, 3}) {
      set_threads(count);
      CHECK(many(f) == one);
    }
  }
  set_threads(before);
}

TEST_CASE("a dtype that is not computed in is refused by name") {
  const Tensor integers = Tensor::zeros({2}, DType::i64), halves = Tensor::zeros({2}, DType::f16);
  CHECK_THROWS_WITH_AS(relu(integers), "relu: takes f32 and f64, not i64; cast first", DTypeError);
  CHECK_THROWS_WITH_AS(scale(halves, 2), "scale: takes f32 and f64, not f16; cast first", DTypeError);
}

TEST_CASE("an empty handle is refused by name") {
  CHECK_THROWS_WITH_AS(gelu(Tensor()), "gelu: input 0 is an empty tensor handle", ArgumentError);
}
