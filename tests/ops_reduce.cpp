// sum, mean, argmax: against plain loops, their precision, their edges, what is refused.
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/tape.h>
#include <xent/ops/ops.h>

using namespace xent;

namespace {

using Axes = std::initializer_list<int64_t>;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Indices = std::vector<int64_t>;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Case {
  Shape shape;
  std::vector<int64_t> axes;  // none: all
};

// One to four groups of axes, kept and summed in turn, with the innermost axis in either; sums long enough to be cut
// into chunks; more columns than a block holds.
const Case cases[] = {
    {{}, {}},
    {{7}, {0}},
    {{3, 5}, {}},
    {{3, 5}, {0}},
    {{3, 5}, {1}},
    {{3, 5}, {-2, -1}},
    {{2, 3, 4, 5}, {1, 2}},
    {{2, 3, 4, 5}, {0, 2}},
    {{2, 3, 4, 5}, {3, 1}},
    {{2, 3, 4, 5}, {0, 3}},
    {{1, 3, 1, 5, 1}, {0, 3, 4}},
    {{2, 3, 2, 2, 3, 2, 2, 3}, {0, 2, 4, 6}},
    {{2, 3, 2, 2, 3, 2, 2, 3}, {1, 3, 5, 7}},
    {{3, 300}, {0}},
    {{2, 7, 2500}, {1}},
    {{40, 2500}, {0}},
    {{50001}, {}},
    {{2, 50001}, {1}},
    {{50001, 2}, {0}},
    {{20001, 3, 2}, {0, 2}},
    {{300, 300}, {0}},
    {{300, 2, 300}, {0, 2}},
};

using Reduce = Tensor (*)(const Tensor&, Axes, bool);

Tensor apply_axes(Reduce op, const Tensor& x, const std::vector<int64_t>& axes, bool keep) {
  switch (axes.size()) {
    case 0: return op(x, {}, keep);
    case 1: return op(x, {axes[0]}, keep);
    case 2: return op(x, {axes[0], axes[1]}, keep);
    case 3: return op(x, {axes[0], axes[1], axes[2]}, keep);
    default: return op(x, {axes[0], axes[1], axes[2], axes[3]}, keep);
  }
}

Doubles numbers(const Shape& shape, uint64_t seed) {
  HostRandom random(seed);
  Doubles values(static_cast<size_t>(shape.elements()));
  for (double& value : values) value = random.normal();
  return values;
}

bool is_reduced(const Case& c, int axis) {
  if (c.axes.empty()) return true;
  for (const int64_t given : c.axes)
    if (c.shape.resolve(given) == axis) return true;
  return false;
}

// Which element of the result an element of x goes into, digit by digit.
size_t result_index(const Case& c, int64_t i) {
  int64_t at = 0, size = 1;
  for (int axis = c.shape.rank() - 1; axis >= 0; --axis) {
    const int64_t digit = i % c.shape[axis];
    i /= c.shape[axis];
    if (is_reduced(c, axis)) continue;
    at += digit * size;
    size *= c.shape[axis];
  }
  return static_cast<size_t>(at);
}

Shape result_shape(const Case& c, bool keep) {
  std::vector<int64_t> extents;
  for (int axis = 0; axis < c.shape.rank(); ++axis) {
    if (!is_reduced(c, axis)) extents.push_back(c.shape[axis]);
    else if (keep) extents.push_back(1);
  }
  return Shape(std::span<const int64_t>(extents));
}

void check_near(const Doubles& actual, const Doubles& expected) {
  REQUIRE(actual.size() == expected.size());
  size_t wrong = 0;
  for (size_t i = 0; i < actual.size(); ++i)
    wrong += !(std::abs(actual[i] - expected[i]) <= 1e-11 * (1 + std::abs(expected[i])));  // a NaN is wrong
  CHECK(wrong == 0);
}

Tensor line(const Floats& values) { return Tensor::from(values, {static_cast<int64_t>(values.size())}); }

}  // namespace

// ---- sum and mean ----

TEST_CASE("sum and mean, and their gradients, are those of a plain loop") {
  for (const Case& c : cases) {
    CAPTURE(c.shape.str());
    for (const bool keep : {false, true}) {
      const Doubles x = numbers(c.shape, 1);
      const Tensor input = Tensor::from(x, c.shape);
      Tape tape;
      tape.watch(input);
      const Tensor total = apply_axes(sum, input, c.axes, keep), average = apply_axes(mean, input, c.axes, keep);
      REQUIRE(total.shape() == result_shape(c, keep));
      REQUIRE(average.shape() == total.shape());

      const auto results = static_cast<size_t>(total.elements());
      const double count = static_cast<double>(x.size()) / static_cast<double>(results);
      const Doubles u = numbers(total.shape(), 2);
      Doubles sums(results), means(results), gradient;
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t j = result_index(c, static_cast<int64_t>(i));
        sums[j] += x[i];
        gradient.push_back(u[j] + u[j] / count);
      }
      for (size_t j = 0; j < results; ++j) means[j] = sums[j] / count;
      check_near(total.to_vector<double>(), sums);
      check_near(average.to_vector<double>(), means);
      const Gradients gradients = tape.backward(add(total, average), {.upstream = Tensor::from(u, total.shape())});
      check_near(gradients[input].to_vector<double>(), gradient);
    }
  }
}

TEST_CASE("the f32 sum of 2^24 equal elements is right to one rounding") {
  const int64_t count = int64_t{1} << 24;
  const float tenth = 0.1f;
  const double exact = static_cast<double>(count) * static_cast<double>(tenth);
  const Tensor x = Tensor::full({count}, tenth);
  CHECK(sum(x).item() == static_cast<float>(exact));
  CHECK(mean(x).item() == static_cast<double>(tenth));
  CHECK(sum(x.reshape({count / 4, 4}), {0}).to_vector<float>() == Floats(4, static_cast<float>(exact / 4)));
}

TEST_CASE("the f64 sum of a million numbers loses no more than a few digits") {
  const Doubles values = numbers({1000003}, 3);
  long double exact = 0;
  for (const double value : values) exact += value;
  CHECK(std::abs(sum(Tensor::from(values, {1000003})).item() - static_cast<double>(exact)) < 1e-11);
}

TEST_CASE("a sum in f32 does not overflow on its way to a result that fits") {
  CHECK(sum(line({3e38f, 3e38f, -3e38f})).item() == doctest::Approx(3e38f));
  CHECK(mean(line({3e38f, 3e38f})).item() == doctest::Approx(3e38f));
}

TEST_CASE("infinities and NaN pass through a sum") {
  CHECK(sum(line({1, infinity, 2})).item() == infinity);
  CHECK(std::isnan(sum(line({infinity, -infinity})).item()));
  CHECK(std::isnan(mean(line({1, not_a_number})).item()));
}

TEST_CASE("the sum of no elements is 0, their mean is NaN") {
  CHECK(sum(Tensor::zeros({0})).item() == 0);
  CHECK(std::isnan(mean(Tensor::zeros({0, 3})).item()));
  CHECK(sum(Tensor::zeros({0, 3}), {0}).to_vector<float>() == Floats{0, 0, 0});
  CHECK(sum(Tensor::zeros({3, 0, 2}), {1}).to_vector<float>() == Floats(6));
  CHECK(sum(Tensor::zeros({3, 0}), {-1}).to_vector<float>() == Floats{0, 0, 0});
  CHECK(sum(Tensor::zeros({3, 0}), {0}).shape() == Shape{0});
  CHECK(mean(Tensor::zeros({3, 0}), {0}).shape() == Shape{0});
}

TEST_CASE("the gradient of a reduction of no elements is empty") {
  for (const auto op : {sum, mean}) {
    const Tensor x = Tensor::zeros({0, 3});
    Tape tape;
    tape.watch(x);
    const Tensor y = op(x, {0}, false);
    CHECK(tape.backward(y, {.upstream = Tensor::ones({3})})[x].shape() == Shape{0, 3});
  }
}

TEST_CASE("reductions keep nothing for backward") {
  const Tensor x = Tensor::ones({4, 5});
  Tape tape;
  tape.watch(x);
  const Tensor y = mean(sum(x, {0}));
  CHECK(tape.size() == 2);
  CHECK(tape.kept_bytes() == 0);
}

TEST_CASE("one, two and three threads give the same bits") {
  const int before = threads();
  const auto run = [](const Case& c) {
    const Doubles values = numbers(c.shape, 4);
    const Tensor x = Tensor::from(Floats(values.begin(), values.end()), c.shape);
    return std::vector{apply_axes(sum, x, c.axes, false).to_vector<float>(),
                       apply_axes(mean, x, c.axes, false).to_vector<float>()};
  };
  for (const Case& c : {Case{{1000003}, {}}, {{3000, 300}, {0}}, {{3000, 300}, {1}}, {{40, 50, 60, 7}, {0, 2}}}) {
    set_threads(1);
    const auto one = run(c);
    for (const int count : {2, 3}) {
      set_threads(count);
      CHECK(run(c) == one);
    }
  }
  set_threads(before);
}

TEST_CASE("axes that are not there, or given twice, are named") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(sum(x, {2}), "sum: axis 2 is not in [-2, 2) of shape [2, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(mean(x, {-3}), "mean: axis -3 is not in [-2, 2) of shape [2, 3]", ShapeError);
  CHECK_THROWS_WITH_AS(sum(x, {0, -2}), "sum: axis -2 of shape [2, 3] is given twice", ShapeError);
  CHECK_THROWS_WITH_AS(sum(Tensor::scalar(1), {0}), "sum: axis 0 is not in [0, 0) of shape []", ShapeError);
}

TEST_CASE("dtypes that are not computed in and empty handles are refused by name") {
  CHECK_THROWS_WITH_AS(sum(Tensor::zeros({2}, DType::i64)), "sum: takes f32 and f64, not i64; cast first", DTypeError);
  CHECK_THROWS_WITH_AS(mean(Tensor()), "mean: input 0 is an empty tensor handle", ArgumentError);
  CHECK_THROWS_WITH_AS(sum(Tensor(), {0}), "sum: the input is an empty tensor handle", ArgumentError);
}

// ---- argmax ----

TEST_CASE("argmax gives the index of the largest element along an axis, as i64") {
  const Tensor x = Tensor::from({1, 5, 2, 7, 0, 3}, {2, 3});
  const Tensor y = argmax(x);
  CHECK(y.dtype() == DType::i64);
  CHECK(y.shape() == Shape{2});
  CHECK(y.to_vector<int64_t>() == Indices{1, 0});
  CHECK(argmax(x, 0).to_vector<int64_t>() == Indices{1, 0, 1});
  CHECK(argmax(x, -2).to_vector<int64_t>() == Indices{1, 0, 1});
}

TEST_CASE("argmax along a middle axis is that of a plain loop") {
  const Shape shape{30, 17, 41};
  const Doubles x = numbers(shape, 5);
  Indices expected;
  for (size_t i = 0; i < 30; ++i)
    for (size_t j = 0; j < 41; ++j) {
      size_t best = 0;
      for (size_t k = 1; k < 17; ++k)
        if (x[(i * 17 + k) * 41 + j] > x[(i * 17 + best) * 41 + j]) best = k;
      expected.push_back(static_cast<int64_t>(best));
    }
  CHECK(argmax(Tensor::from(x, shape), 1).to_vector<int64_t>() == expected);
}

TEST_CASE("argmax takes the first among equals") {
  CHECK(argmax(line({2, 7, 7, 1})).item<int64_t>() == 1);
  CHECK(argmax(line({-infinity, -infinity})).item<int64_t>() == 0);
  CHECK(argmax(line({-0.0f, 0.0f})).item<int64_t>() == 0);
}

TEST_CASE("argmax counts NaN as the largest, and the first NaN wins") {
  CHECK(argmax(line({1, not_a_number, infinity, not_a_number})).item<int64_t>() == 1);
  CHECK(argmax(line({not_a_number, 1})).item<int64_t>() == 0);
}

TEST_CASE("argmax has no gradient: it is not recorded") {
  const Tensor x = line({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor y = argmax(x);
  CHECK(tape.size() == 0);
}

TEST_CASE("argmax of no rows is empty; along an axis without elements it is refused") {
  CHECK(argmax(Tensor::zeros({0, 3})).shape() == Shape{0});
  CHECK_THROWS_WITH_AS(argmax(Tensor::zeros({3, 0})), "argmax: axis 1 of shape [3, 0] has no element", ShapeError);
  CHECK_THROWS_WITH_AS(argmax(Tensor::scalar(1)), "argmax: axis -1 is not in [0, 0) of shape []", ShapeError);
  const Tensor bytes = Tensor::zeros({2}, DType::u8);
  CHECK_THROWS_WITH_AS(argmax(bytes), "argmax: takes f32 and f64, not u8; cast first", DTypeError);
}
