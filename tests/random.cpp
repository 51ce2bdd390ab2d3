// Philox against the vectors its authors publish with it, and what is built on it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/random.h>

using namespace xent;

namespace {

using Block = std::array<uint32_t, 4>;

std::vector<uint32_t> words(HostRandom random, int count) {
  std::vector<uint32_t> result;
  for (int i = 0; i < count; ++i) result.push_back(random.word());
  return result;
}

}  // namespace

// ---- Philox4x32-10; known answers from the Random123 distribution, kat_vectors ----

TEST_CASE("philox gives the known answer for zeros") {
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
}

TEST_CASE("philox gives the known answer for ones") {
  constexpr uint32_t ones = 0xffffffff;
  CHECK(philox({ones, ones, ones, ones}, {ones, ones}) == Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("philox gives the known answer for the digits of pi") {
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox works at compile time") {
  static_assert(philox({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5);
  CHECK(philox_block(0, 0) == philox({0, 0, 0, 0}, {0, 0}));
}

TEST_CASE("a block's counter and key are the low and high words of block and seed") {
  CHECK(philox_block(0x299f31d0a4093822, 0x85a308d3243f6a88) ==
        philox({0x243f6a88, 0x85a308d3, 0, 0}, {0xa4093822, 0x299f31d0}));
}

TEST_CASE("to_unit maps words to [0, 1) by their upper 24 bits") {
  CHECK(to_unit(0) == 0);
  CHECK(to_unit(0x80000000) == 0.5f);
  CHECK(to_unit(0xff) == 0);
  CHECK(to_unit(0x100) == 0x1p-24f);
  CHECK(to_unit(0xffffffff) == 1 - 0x1p-24f);
}

// ---- HostRandom ----

TEST_CASE("HostRandom's words are the seed's blocks one after the other") {
  const std::vector<uint32_t> drawn = words(HostRandom(42), 10);
  for (size_t i = 0; i < drawn.size(); ++i) CHECK(drawn[i] == philox_block(42, i / 4)[i % 4]);
}

TEST_CASE("the same seed and stream give the same words, another of either gives others") {
  const std::vector<uint32_t> drawn = words(HostRandom(1, 2), 20);
  CHECK(words(HostRandom(1, 2), 20) == drawn);
  CHECK(words(HostRandom(2, 2), 20) != drawn);
  CHECK(words(HostRandom(1, 3), 20) != drawn);
  CHECK(words(HostRandom(1), 20) != drawn);
}

TEST_CASE("below stays in range and draws every number equally often") {
  for (const uint64_t bound : {1u, 2u, 3u, 7u, 10u}) {
    HostRandom random(9);
    std::vector<int> counts(bound, 0);
    constexpr int draws = 70'000;
    for (int i = 0; i < draws; ++i) {
      const uint64_t value = random.below(bound);
      REQUIRE(value < bound);
      ++counts[value];
    }
    const double expected = static_cast<double>(draws) / static_cast<double>(bound);
    double chi_squared = 0;
    for (const int count : counts) chi_squared += (count - expected) * (count - expected) / expected;
    CAPTURE(bound);
    CHECK(chi_squared < 28);  // 9 degrees of freedom: 1 in 1000 is above
  }
}

TEST_CASE("below has no bias for bounds near 2^64, where a remainder alone would have") {
  HostRandom random(3);
  constexpr uint64_t bound = 3ull << 62;  // of 2^64 numbers the upper quarter would wrap onto the lowest third
  constexpr int draws = 30'000;
  int lowest_third = 0;
  for (int i = 0; i < draws; ++i) {
    const uint64_t value = random.below(bound);
    REQUIRE(value < bound);
    lowest_third += value < bound / 3 ? 1 : 0;
  }
  CHECK(std::abs(lowest_third - draws / 3) < 400);  // five deviations; with the bias it would be half of the draws
}

TEST_CASE("below takes the largest bound, and refuses 0") {
  HostRandom random(1);
  CHECK(random.below(std::numeric_limits<uint64_t>::max()) < std::numeric_limits<uint64_t>::max());
  CHECK_THROWS_AS(random.below(0), ArgumentError);
}

TEST_CASE("uniform has the moments of the uniform distribution on [0, 1)") {
  HostRandom random(4);
  constexpr int draws = 200'000;
  double sum = 0, squares = 0;
  float smallest = 1, largest = 0;
  for (int i = 0; i < draws; ++i) {
    const float x = random.uniform();
    smallest = std::min(smallest, x);
    largest = std::max(largest, x);
    sum += x;
    squares += static_cast<double>(x) * x;
  }
  CHECK(smallest >= 0);
  CHECK(largest < 1);
  CHECK(sum / draws == doctest::Approx(0.5).epsilon(0.005));
  CHECK(squares / draws == doctest::Approx(1.0 / 3).epsilon(0.01));
}

TEST_CASE("normal has the moments of the normal distribution") {
  HostRandom random(5);
  constexpr int draws = 200'000;
  double moments[5] = {};
  int beyond_two = 0;
  for (int i = 0; i < draws; ++i) {
    const double x = random.normal();
    REQUIRE(std::isfinite(x));
    for (int m = 1; m <= 4; ++m) moments[m] += std::pow(x, m) / draws;
    beyond_two += std::abs(x) > 2 ? 1 : 0;
  }
  // Five standard deviations of each mean: sqrt(1, 2, 15, 96 / draws).
  CHECK(std::abs(moments[1]) < 0.012);
  CHECK(std::abs(moments[2] - 1) < 0.016);
  CHECK(std::abs(moments[3]) < 0.044);
  CHECK(std::abs(moments[4] - 3) < 0.11);
  CHECK(static_cast<double>(beyond_two) / draws == doctest::Approx(0.0455).epsilon(0.05));
}

// ---- Generator ----

TEST_CASE("a generator's state is the seed and the next block") {
  const Generator generator(42);
  CHECK(generator.state().to_vector<int64_t>() == std::vector<int64_t>{42, 0});
  CHECK(generator.state().shape() == Shape{2});
}

TEST_CASE("copies of a generator share its state, and set_seed starts anew in place") {
  Generator generator(42);
  const Generator copy = generator;
  const uint64_t version = generator.state().storage()->version();
  generator.set_seed(std::numeric_limits<uint64_t>::max());
  CHECK(copy.state().to_vector<int64_t>() == std::vector<int64_t>{-1, 0});
  CHECK(copy.state().id() == generator.state().id());
  CHECK(copy.state().storage()->version() != version);
}
