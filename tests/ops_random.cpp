// uniform and normal: which numbers come out, how the generator advances, how they are distributed, what is refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/step.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/ops.h>

using namespace xent;

namespace {

using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Longs = std::vector<int64_t>;

uint32_t word(uint64_t seed, uint64_t index) { return philox_block(seed, index / 4)[index % 4]; }

Generator at_block(uint64_t seed, uint64_t block) {
  Generator generator(seed);
  Tensor state = generator.state();
  state.mutable_data<int64_t>()[1] = static_cast<int64_t>(block);
  return generator;
}

void check_moments(const Doubles& values, double mean, double deviation) {
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const auto count = static_cast<double>(values.size());
  for (const double value : values) squares += (value - sum / count) * (value - sum / count);
  CHECK(std::abs(sum / count - mean) < 5 * deviation / std::sqrt(count));  // five standard errors
  CHECK(std::abs(std::sqrt(squares / count) / deviation - 1) < 5 / std::sqrt(count));
}

}  // namespace

// ---- which numbers ----

TEST_CASE("element i of a uniform tensor comes from word i of the seed's sequence") {
  Generator generator(42);
  const Floats single = uniform({2, 5}, -1, 3, generator).to_vector<float>();
  for (size_t i = 0; i < single.size(); ++i) CHECK(single[i] == -1 + 4 * to_unit(word(42, i)));

  generator.set_seed(43);
  const Doubles wide = uniform({7}, -1, 3, generator, DType::f64).to_vector<double>();
  for (size_t i = 0; i < wide.size(); ++i) CHECK(wide[i] == -1 + 4 * (word(43, i) * 0x1p-32));
}

TEST_CASE("pairs of words give pairs of normal numbers, by Box-Muller") {
  Generator generator(42);
  const Doubles values = normal({7}, 3, 2, generator, DType::f64).to_vector<double>();
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t first = i / 2 * 2;
    const double radius = std::sqrt(-2 * std::log((word(42, first) + 1.0) / 4294967296.0));
    const double angle = 2 * std::acos(-1.0) * word(42, first + 1) / 4294967296.0;
    const double expected = 3 + 2 * radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
    CHECK(values[i] == doctest::Approx(expected).epsilon(1e-14));
  }
}

TEST_CASE("a normal number in f32 is the one in f64, rounded") {
  Generator a(9), b(9);
  const Floats single = normal({101}, 0, 1, a).to_vector<float>();
  const Doubles wide = normal({101}, 0, 1, b, DType::f64).to_vector<double>();
  CHECK(single == Floats(wide.begin(), wide.end()));
}

TEST_CASE("the largest uniform number rounds to below high") {
  // Block 6318945 of seed 1 has a word whose upper 24 bits are all ones: 1 + u would round to 2.
  const uint64_t block = 6318945;
  REQUIRE(1 + to_unit(word(1, 4 * block + 1)) == 2);
  Generator generator = at_block(1, block);
  CHECK(uniform({4}, 1, 2, generator).to_vector<float>()[1] == std::nextafter(2.0f, 1.0f));
}

TEST_CASE("a normal number is finite where its uniform number is the smallest") {
  const uint64_t block = 91093890;
  REQUIRE(word(1, 4 * block) == 0);
  Generator generator = at_block(1, block);
  const Doubles values = normal({2}, 0, 1, generator, DType::f64).to_vector<double>();
  CHECK(std::hypot(values[0], values[1]) == doctest::Approx(std::sqrt(64 * std::log(2.0))));  // u is 2^-32
}

// ---- the generator ----

TEST_CASE("the state advances by the blocks used") {
  Generator generator(5);
  const auto next = [&] { return generator.state().to_vector<int64_t>(); };
  CHECK(next() == Longs{5, 0});
  uniform({3, 3}, 0, 1, generator);
  CHECK(next() == Longs{5, 3});
  normal({4}, 0, 1, generator);
  CHECK(next() == Longs{5, 4});
  normal({}, 0, 1, generator);
  CHECK(next() == Longs{5, 5});
  CHECK(uniform({0, 3}, 0, 1, generator).shape() == Shape{0, 3});
  CHECK(next() == Longs{5, 5});
}

TEST_CASE("draws of whole blocks continue one sequence") {
  Generator whole(8), parts(8);
  Floats joined = uniform({8}, 0, 1, parts).to_vector<float>();
  const Floats rest = uniform({6}, 0, 1, parts).to_vector<float>();
  joined.insert(joined.end(), rest.begin(), rest.end());
  CHECK(uniform({14}, 0, 1, whole).to_vector<float>() == joined);
}

TEST_CASE("the same seed gives the same numbers, another one others") {
  Generator a(1), b(1), c(2);
  const Floats numbers = uniform({50}, 0, 1, a).to_vector<float>();
  CHECK(uniform({50}, 0, 1, b).to_vector<float>() == numbers);
  CHECK(uniform({50}, 0, 1, c).to_vector<float>() != numbers);
  a.set_seed(1);
  CHECK(uniform({50}, 0, 1, a).to_vector<float>() == numbers);
}

TEST_CASE("one, two and three threads draw the same bits") {
  const int before = threads();
  const auto run = [] {
    Generator generator(3);
    std::vector<Floats> results = {uniform({100003}, 0, 1, generator).to_vector<float>()};
    results.push_back(normal({100003}, 0, 1, generator).to_vector<float>());
    return results;
  };
  set_threads(1);
  const auto one = run();
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(run() == one);
  }
  set_threads(before);
}

TEST_CASE("a replayed Step draws on, as calls without a Step would") {
  Generator inside(6), outside(6);
  Step step([&](const Tensor& x) { return add(x, uniform({5}, 0, 1, inside)); });
  const Tensor zero = Tensor::zeros({5});
  for (int call = 0; call < 5; ++call)
    CHECK(step(zero).to_vector<float>() == uniform({5}, 0, 1, outside).to_vector<float>());
}

// ---- distribution ----

TEST_CASE("uniform numbers fill [low, high) evenly") {
  Generator generator(11);
  const Floats values = uniform({400000}, -2, 6, generator).to_vector<float>();
  CHECK(*std::min_element(values.begin(), values.end()) >= -2);
  CHECK(*std::max_element(values.begin(), values.end()) < 6);
  check_moments(Doubles(values.begin(), values.end()), 2, 8 / std::sqrt(12.0));
  std::vector<int> counts(8);
  for (const float value : values) ++counts[static_cast<size_t>(value + 2)];
  for (const int count : counts) CHECK(std::abs(count - 50000) < 5 * 210);  // five deviations of a binomial
}

TEST_CASE("normal numbers have the mean, the deviation and the tails asked for") {
  Generator generator(12);
  const Floats values = normal({400000}, -1, 3, generator).to_vector<float>();
  check_moments(Doubles(values.begin(), values.end()), -1, 3);
  const auto beyond = [&](double deviations) {
    return std::count_if(values.begin(), values.end(), [&](float x) { return std::abs(x + 1) > 3 * deviations; });
  };
  CHECK(std::abs(static_cast<double>(beyond(1)) / 400000 - 0.3173) < 0.004);
  CHECK(std::abs(static_cast<double>(beyond(2)) / 400000 - 0.0455) < 0.002);
  CHECK(std::abs(static_cast<double>(beyond(3)) / 400000 - 0.0027) < 0.0005);
}

TEST_CASE("neighbours are uncorrelated, also the two of one pair") {
  Generator generator(13);
  const Doubles values = normal({400000}, 0, 1, generator, DType::f64).to_vector<double>();
  double lag_one = 0, pairs = 0;
  for (size_t i = 0; i + 1 < values.size(); ++i) lag_one += values[i] * values[i + 1];
  for (size_t i = 0; i < values.size(); i += 2) pairs += values[i] * values[i + 1];
  CHECK(std::abs(lag_one) < 5 * std::sqrt(400000.0));
  CHECK(std::abs(pairs) < 5 * std::sqrt(200000.0));
}

TEST_CASE("a deviation of 0 gives the mean") {
  Generator generator(1);
  CHECK(normal({3}, 0.25, 0, generator).to_vector<float>() == Floats{0.25, 0.25, 0.25});
}

// ---- errors ----

TEST_CASE("ranges without a number in them are refused, and the generator stays where it was") {
  Generator generator(1);
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH_AS(uniform({2}, 1, 1, generator),
                       "uniform: [1, 1) of f32: low must be below high, and high - low finite", ArgumentError);
  CHECK_THROWS_AS(uniform({2}, 2, 1, generator), ArgumentError);
  CHECK_THROWS_AS(uniform({2}, 0, infinity, generator), ArgumentError);
  CHECK_THROWS_AS(uniform({2}, 0, std::nan(""), generator), ArgumentError);
  CHECK_THROWS_AS(uniform({2}, 1, 1 + 1e-12, generator), ArgumentError);  // f32 has no number between
  CHECK_THROWS_AS(uniform({2}, -1e308, 1e308, generator, DType::f64), ArgumentError);
  CHECK_THROWS_AS(uniform({2}, 0, 1e39, generator), ArgumentError);
  CHECK(generator.state().to_vector<int64_t>() == Longs{1, 0});
}

TEST_CASE("a negative or infinite deviation is refused") {
  Generator generator(1);
  const char* text = "normal: mean 0, deviation -1: both must be finite, and the deviation not negative";
  CHECK_THROWS_WITH_AS(normal({2}, 0, -1, generator), text, ArgumentError);
  CHECK_THROWS_AS(normal({2}, 0, std::numeric_limits<double>::infinity(), generator), ArgumentError);
  CHECK_THROWS_AS(normal({2}, std::nan(""), 1, generator), ArgumentError);
}

TEST_CASE("dtypes other than f32 and f64 are refused by name") {
  Generator generator(1);
  const auto integers = [&] { return uniform({2}, 0, 1, generator, DType::i32); };
  const auto halves = [&] { return normal({2}, 0, 1, generator, DType::f16); };
  CHECK_THROWS_WITH_AS(integers(), "uniform: takes f32 and f64, not i32; cast first", DTypeError);
  CHECK_THROWS_WITH_AS(halves(), "normal: takes f32 and f64, not f16; cast first", DTypeError);
}
