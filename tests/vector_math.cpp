// The vector functions of f32 against the same functions of doubles: one float in 251 of all there are, and every
// special value. ctest runs it once per instruction set.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/cpu/vector_math.h>

#include "machine_has_it.h"

using namespace xent;
using cpu::VectorFunction;
using cpu::VectorMath;

namespace {

using Floats = std::vector<float>;
using Reference = double (*)(double);

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float largest = std::numeric_limits<float>::max();
constexpr float smallest = std::numeric_limits<float>::denorm_min();

double tanh_of(double x) { return std::tanh(x); }
double exp_of(double x) { return std::exp(x); }
double log_of(double x) { return std::log(x); }
double sigmoid_of(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double phi_of(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }
double gelu_of(double x) { return phi_of(x) == 0 ? 0 : x * phi_of(x); }
double gelu_slope_of(double x) {
  const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
  return phi_of(x) + (density == 0 ? 0 : x * density);
}

Floats call(const VectorFunction& function, const Floats& x) {
  Floats y(x.size());
  function.f(x.data(), y.data(), static_cast<int64_t>(x.size()));
  return y;
}

Floats slopes(const VectorFunction& function, const Floats& v) {
  const Floats ones(v.size(), 1);
  Floats dx(v.size());
  function.df(v.data(), ones.data(), dx.data(), static_cast<int64_t>(v.size()));
  return dx;
}

// The distance in units of the last place of the exact result, of 2^-149 where that is subnormal. Infinite if one is
// NaN and the other is not, or if the exact result, as a float, is infinite and the other is not.
double ulps(float got, double exact) {
  if (std::isnan(exact) || std::isnan(got)) return std::isnan(exact) && std::isnan(got) ? 0 : infinity;
  const auto rounded = static_cast<float>(exact);
  if (std::isinf(rounded) || std::isinf(got)) {
    // At the limit itself, one float off is one ulp.
    if (got == rounded) return 0;
    return std::abs(exact) < 1.0000001 * static_cast<double>(largest) || std::abs(got) == largest ? 1 : infinity;
  }
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::abs(static_cast<double>(got) - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

struct Worst {
  double error = 0;
  float at = 0;
};

// Over one float in 251, from `from` to `to`; both signs if both are in.
Worst worst(const VectorFunction& function, Reference reference, float from = -infinity, float to = infinity) {
  Floats x;
  constexpr uint32_t step = 251;
  for (uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += step) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (value >= from && value <= to) x.push_back(value);
  }
  const Floats y = call(function, x);
  Worst found;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = ulps(y[i], reference(static_cast<double>(x[i])));
    if (error > found.error) found = {error, x[i]};
  }
  return found;
}

void check_worst(const Worst& found, double limit) {
  CAPTURE(found.at);
  CHECK(found.error <= limit);
}

}  // namespace

TEST_CASE("exp is within 1.02 ulp, subnormal results included") {
  if (!machine_has_it()) return;
  check_worst(worst(cpu::vector_math().exp, exp_of), 1.02);
}

TEST_CASE("log is within 1 ulp, subnormal arguments included") {
  if (!machine_has_it()) return;
  check_worst(worst(cpu::vector_math().log, log_of), 1);
}

TEST_CASE("tanh is within 2 ulp") {
  if (!machine_has_it()) return;
  check_worst(worst(cpu::vector_math().tanh, tanh_of), 2);
}

TEST_CASE("sigmoid is within 3 ulp, subnormal results included") {
  if (!machine_has_it()) return;
  check_worst(worst(cpu::vector_math().sigmoid, sigmoid_of), 3);
}

TEST_CASE("gelu is within 7 ulp, and within 10 below -12 where its second factor is subnormal") {
  if (!machine_has_it()) return;
  check_worst(worst(cpu::vector_math().gelu, gelu_of, -12), 7);
  check_worst(worst(cpu::vector_math().gelu, gelu_of, -infinity, -12), 10);
}

TEST_CASE("gelu's slope has an error of at most 3e-7, and small slopes keep their digits") {
  if (!machine_has_it()) return;
  Floats x;
  for (float value = -40; value < 40; value += 0x1p-10f) x.push_back(value);
  const Floats slope = slopes(cpu::vector_math().gelu, x);
  double absolute = 0, far = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = gelu_slope_of(static_cast<double>(x[i]));
    absolute = std::max(absolute, std::abs(static_cast<double>(slope[i]) - exact));
    if (x[i] < -2 && x[i] > -12) far = std::max(far, ulps(slope[i], exact));
  }
  CHECK(absolute < 3e-7);
  CHECK(far < 12);
}

TEST_CASE("special values") {
  if (!machine_has_it()) return;
  const VectorMath& math = cpu::vector_math();
  for (const VectorFunction* function : {&math.relu, &math.tanh, &math.sigmoid, &math.gelu, &math.exp, &math.log}) {
    const Floats y = call(*function, {not_a_number, -not_a_number});
    CHECK(std::isnan(y[0]));
    CHECK(std::isnan(y[1]));
    CHECK(std::isnan(slopes(*function, {1, not_a_number})[1]) == (function != &math.relu));
  }
  CHECK(call(math.relu, {-infinity, -1, 0, smallest, infinity}) == Floats{0, 0, 0, smallest, infinity});
  CHECK(call(math.tanh, {-infinity, -20, 0, smallest, -smallest, infinity}) ==
        Floats{-1, -1, 0, smallest, -smallest, 1});
  CHECK(call(math.sigmoid, {-infinity, -200, 0, 100, infinity}) == Floats{0, 0, 0.5f, 1, 1});
  CHECK(call(math.gelu, {-infinity, -largest, 0, largest, infinity}) == Floats{0, 0, 0, largest, infinity});
  CHECK(call(math.exp, {-infinity, -104, 0, smallest, 89, infinity}) == Floats{0, 0, 1, 1, infinity, infinity});
  CHECK(call(math.log, {0, -0.0f, 1, infinity}) == Floats{-infinity, -infinity, 0, infinity});
  for (const float y : call(math.log, {-smallest, -1, -infinity})) CHECK(std::isnan(y));
  CHECK(slopes(math.gelu, {-infinity, -largest, 0, largest, infinity}) == Floats{0, 0, 0.5f, 1, 1});
  CHECK(slopes(math.relu, {-1, 0, -0.0f, smallest, infinity}) == Floats{0, 0, 0, 1, 1});
  CHECK(slopes(math.log, {0, -4, infinity}) == Floats{infinity, -0.25f, 0});
}

TEST_CASE("relu of -0 is +0, tanh of -0 is -0") {
  if (!machine_has_it()) return;
  CHECK(!std::signbit(call(cpu::vector_math().relu, {-0.0f})[0]));
  CHECK(std::signbit(call(cpu::vector_math().tanh, {-0.0f})[0]));
}

TEST_CASE("an element's bits do not depend on where it is, nothing behind the run is touched, in place is allowed") {
  if (!machine_has_it()) return;
  const VectorMath& math = cpu::vector_math();
  Floats x;
  for (int i = 0; i < 67; ++i) x.push_back(0.37f * static_cast<float>(i) + 0.01f);
  for (const VectorFunction* function : {&math.relu, &math.tanh, &math.sigmoid, &math.gelu, &math.exp, &math.log}) {
    const Floats all = call(*function, x);
    for (size_t begin = 0; begin < 20; ++begin)
      for (size_t count = 0; begin + count < 40; ++count) {
        Floats part = x;
        function->f(part.data() + begin, part.data() + begin, static_cast<int64_t>(count));
        Floats expected = x;
        std::copy_n(all.begin() + static_cast<int64_t>(begin), count, expected.begin() + static_cast<int64_t>(begin));
        REQUIRE(part == expected);
        Floats slope = x;
        function->df(x.data() + begin, slope.data() + begin, slope.data() + begin, static_cast<int64_t>(count));
        for (size_t i = 0; i < x.size(); ++i) {
          const bool inside = i >= begin && i < begin + count;
          Floats one(1);
          function->df(&x[i], &x[i], one.data(), 1);
          REQUIRE(slope[i] == (inside ? one[0] : x[i]));
        }
      }
  }
}
