// add, sub, mul, div: broadcasting and its gradients against plain loops over indices.
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
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
using Binary = Tensor (*)(const Tensor&, const Tensor&);

struct Reference {
  const char* name;
  Binary op;
  double (*f)(double a, double b);
  double (*da)(double a, double b);
  double (*db)(double a, double b);
};

double one(double, double) { return 1; }
double minus_one(double, double) { return -1; }
double left(double a, double) { return a; }
double right(double, double b) { return b; }

const Reference references[] = {
    {"add", add, [](double a, double b) { return a + b; }, one, one},
    {"sub", sub, [](double a, double b) { return a - b; }, one, minus_one},
    {"mul", mul, [](double a, double b) { return a * b; }, right, left},
    {"div", div, [](double a, double b) { return a / b; }, [](double, double b) { return 1 / b; },
     [](double a, double b) { return -a / (b * b); }},
};

// Every way an axis can be stretched, alone and mixed; long ones that are cut into chunks; the highest rank.
const std::pair<Shape, Shape> pairs[] = {
    {{3, 5}, {3, 5}},
    {{}, {}},
    {{7}, {}},
    {{}, {2, 3}},
    {{1}, {2, 3}},
    {{1, 1}, {4}},
    {{4, 6}, {6}},
    {{6}, {4, 6}},
    {{4, 6}, {4, 1}},
    {{4, 1}, {4, 6}},
    {{3, 1}, {1, 5}},
    {{2, 3, 4}, {3, 1}},
    {{2, 3, 1, 5}, {3, 4, 1}},
    {{5, 1, 7}, {1, 6, 1}},
    {{2, 1, 2, 1, 3, 1, 2, 2}, {1, 2, 2, 3, 1, 2, 1, 2}},
    {{2, 1, 2, 1, 2, 1, 2, 1}, {1, 3, 1, 3, 1, 3, 1, 3}},
    {{90, 3, 301}, {3, 1}},
    {{90, 3, 301}, {90, 1, 301}},
    {{400, 301}, {301}},
    {{40, 2500}, {2500}},
    {{3, 40001}, {3, 1}},
};

Doubles numbers(const Shape& shape, uint64_t seed) {  // in [0.5, 1.5): far from a denominator of 0
  HostRandom random(seed);
  Doubles values(static_cast<size_t>(shape.elements()));
  for (double& value : values) value = 0.5 + random.uniform();
  return values;
}

// Which element of an operand meets element i of the output: written digit by digit.
size_t operand_index(const Shape& operand, const Shape& out, int64_t i) {
  int64_t at = 0, size = 1;
  for (int from_last = 1; from_last <= out.rank(); ++from_last) {
    const int64_t digit = i % out[-from_last];
    i /= out[-from_last];
    if (from_last > operand.rank()) continue;
    if (operand[-from_last] != 1) at += digit * size;
    size *= operand[-from_last];
  }
  return static_cast<size_t>(at);
}

void check_near(const Doubles& actual, const Doubles& expected) {
  REQUIRE(actual.size() == expected.size());
  size_t wrong = 0;
  for (size_t i = 0; i < actual.size(); ++i)
    wrong += !(std::abs(actual[i] - expected[i]) <= 1e-12 * (1 + std::abs(expected[i])));  // a NaN is wrong
  CHECK(wrong == 0);
}

Tensor line(const Doubles& values) { return Tensor::from(values, {static_cast<int64_t>(values.size())}); }

}  // namespace

// ---- values and gradients ----

TEST_CASE("values and gradients are those of a plain loop over the broadcast indices") {
  for (const Reference& reference : references) {
    for (const auto& [a_shape, b_shape] : pairs) {
      CAPTURE(reference.name);
      CAPTURE(a_shape.str());
      CAPTURE(b_shape.str());
      const Doubles a = numbers(a_shape, 1), b = numbers(b_shape, 2);
      const Tensor ta = Tensor::from(a, a_shape), tb = Tensor::from(b, b_shape);
      Tape tape;
      tape.watch(ta);
      tape.watch(tb);
      const Tensor y = reference.op(ta, tb);
      REQUIRE(y.shape() == broadcast("reference", a_shape, b_shape));
      const Doubles u = numbers(y.shape(), 3);

      Doubles expected, da(a.size()), db(b.size());
      for (int64_t i = 0; i < y.elements(); ++i) {
        const size_t ia = operand_index(a_shape, y.shape(), i), ib = operand_index(b_shape, y.shape(), i);
        expected.push_back(reference.f(a[ia], b[ib]));
        da[ia] += u[static_cast<size_t>(i)] * reference.da(a[ia], b[ib]);
        db[ib] += u[static_cast<size_t>(i)] * reference.db(a[ia], b[ib]);
      }
      const Gradients gradients = tape.backward(y, {.upstream = Tensor::from(u, y.shape())});
      check_near(y.to_vector<double>(), expected);
      check_near(gradients[ta].to_vector<double>(), da);
      check_near(gradients[tb].to_vector<double>(), db);
    }
  }
}

TEST_CASE("f32 results are the f64 ones rounded once") {
  for (const Reference& reference : references) {
    const Tensor y = reference.op(Tensor::from({1.1f, -3, 0.3f}, {3}), Tensor::from({0.7f}, {1}));
    Floats expected;
    for (const float a : {1.1f, -3.0f, 0.3f}) expected.push_back(static_cast<float>(reference.f(a, 0.7f)));
    CHECK(y.to_vector<float>() == expected);
  }
}

TEST_CASE("operators are the ops") {
  const Tensor a = line({6, 8}), b = line({2, 4});
  CHECK((a + b).to_vector<double>() == Doubles{8, 12});
  CHECK((a - b).to_vector<double>() == Doubles{4, 4});
  CHECK((a * b).to_vector<double>() == Doubles{12, 32});
  CHECK((a / b).to_vector<double>() == Doubles{3, 2});
}

TEST_CASE("one tensor as both operands gets both gradients") {
  const Tensor x = line({3, -5});
  Tape tape;
  tape.watch(x);
  CHECK(tape.backward(mul(x, x), {.upstream = line({1, 1})})[x].to_vector<double>() == Doubles{6, -10});
}

TEST_CASE("an operand that nobody watches gets no gradient, the other one does") {
  const Tensor a = line({1, 2}), b = line({10, 20});
  Tape tape;
  tape.watch(b);
  const Gradients gradients = tape.backward(mul(a, b), {.upstream = line({1, 1})});
  CHECK(gradients.size() == 1);
  CHECK(gradients[b].to_vector<double>() == Doubles{1, 2});
}

TEST_CASE("a broadcast gradient in f32 is summed in f64 and rounded once") {
  const Tensor x = Tensor::full({3000000}, 1), b = Tensor::scalar(0);
  Tape tape;
  tape.watch(b);
  const Tensor y = add(x, b);
  const float tenth = 0.1f;
  const double expected = 3000000 * static_cast<double>(tenth);
  CHECK(tape.backward(y, {.upstream = Tensor::full({3000000}, tenth)})[b].item() == static_cast<float>(expected));
}

// ---- edges ----

TEST_CASE("shapes without elements work, and stretched operands get zeros") {
  struct Case {
    Shape a, b, y;
  };
  const Case cases[] = {{{0, 3}, {3}, {0, 3}},         {{0, 3}, {}, {0, 3}}, {{0, 3}, {1, 3}, {0, 3}},
                        {{3, 0}, {3, 1}, {3, 0}},      {{0}, {0}, {0}},      {{2, 0, 5}, {1, 5}, {2, 0, 5}},
                        {{2, 1, 5}, {0, 1}, {2, 0, 5}}};
  for (const Reference& reference : references) {
    for (const auto& [a_shape, b_shape, y_shape] : cases) {
      const Tensor a = Tensor::ones(a_shape), b = Tensor::ones(b_shape);
      Tape tape;
      tape.watch(a);
      tape.watch(b);
      const Tensor y = reference.op(a, b);
      CHECK(y.shape() == y_shape);
      const Gradients gradients = tape.backward(y, {.upstream = y});
      CHECK(gradients[a].to_vector<float>() == Floats(static_cast<size_t>(a_shape.elements())));
      CHECK(gradients[b].to_vector<float>() == Floats(static_cast<size_t>(b_shape.elements())));
    }
  }
}

TEST_CASE("division by zero follows IEEE 754") {
  const Doubles y = div(line({1, -1, 0}), Tensor::scalar(0, DType::f64)).to_vector<double>();
  CHECK(y[0] == std::numeric_limits<double>::infinity());
  CHECK(y[1] == -std::numeric_limits<double>::infinity());
  CHECK(std::isnan(y[2]));
}

TEST_CASE("the gradient of a small denominator does not underflow on the way") {
  const Tensor a = line({1e-200}), b = line({1e-200});
  Tape tape;
  tape.watch(b);
  CHECK(tape.backward(div(a, b))[b].item() == doctest::Approx(-1e200));
}

TEST_CASE("add and sub keep nothing for backward, mul and div their operands") {
  const auto kept = [](Binary op) {
    const Tensor a = line({1, 2, 3}), b = line({4});
    Tape tape;
    tape.watch(a);
    tape.watch(b);
    const Tensor y = op(a, b);
    return tape.kept_bytes();
  };
  CHECK(kept(add) == 0);
  CHECK(kept(sub) == 0);
  CHECK(kept(mul) == 32);
  CHECK(kept(div) == 32);
}

// ---- threads and errors ----

TEST_CASE("one, two and three threads give the same bits") {
  const int before = threads();
  const auto run = [](const Shape& a_shape, const Shape& b_shape, Binary op) {
    const Doubles a = numbers(a_shape, 1), b = numbers(b_shape, 2);
    const Tensor ta = Tensor::from(Floats(a.begin(), a.end()), a_shape);
    const Tensor tb = Tensor::from(Floats(b.begin(), b.end()), b_shape);
    Tape tape;
    tape.watch(ta);
    tape.watch(tb);
    const Tensor y = op(ta, tb);
    const Gradients gradients = tape.backward(y, {.upstream = y});
    return std::array{y.to_vector<float>(), gradients[ta].to_vector<float>(), gradients[tb].to_vector<float>()};
  };
  for (const Binary op : {add, div})
    for (const auto& [a, b] : {std::pair<Shape, Shape>{{1024, 512}, {512}}, {{200001}, {}}, {{300, 1, 50}, {20, 1}}}) {
      set_threads(1);
      const auto one = run(a, b, op);
      for (const int count : {2, 3}) {
        set_threads(count);
        CHECK(run(a, b, op) == one);
      }
    }
  set_threads(before);
}

TEST_CASE("shapes that do not broadcast are named") {
  const char* text = "add: shapes [2, 3] and [2] do not broadcast: 3 against 2 (extents must be equal or 1)";
  CHECK_THROWS_WITH_AS(add(Tensor::zeros({2, 3}), Tensor::zeros({2})), text, ShapeError);
  CHECK_THROWS_AS(mul(Tensor::zeros({0}), Tensor::zeros({2})), ShapeError);
}

TEST_CASE("dtypes that differ or are not computed in are named") {
  const Tensor x = Tensor::zeros({2}), doubles = Tensor::zeros({2}, DType::f64);
  const Tensor integers = Tensor::zeros({2}, DType::i32);
  CHECK_THROWS_WITH_AS(mul(x, doubles), "mul: left is f32, right is f64; cast one of them", DTypeError);
  CHECK_THROWS_WITH_AS(div(x, integers), "div: takes f32 and f64, not i32; cast first", DTypeError);
}

TEST_CASE("an empty handle is refused by name") {
  CHECK_THROWS_WITH_AS(sub(Tensor::zeros({2}), Tensor()), "sub: input 1 is an empty tensor handle", ArgumentError);
}

TEST_CASE("a tensor divided by a number, and a number by a tensor, are rounded once") {
  std::vector<float> x(999), expected(999), inverse(999);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i + 1);
    expected[i] = x[i] / 10.0f;
    inverse[i] = 1.0f / x[i];
  }
  const Tensor tensor = Tensor::from(x, {999});
  CHECK((tensor / 10.0).to_vector<float>() == expected);
  CHECK((1.0 / tensor).to_vector<float>() == inverse);
}
