// What the tests of nn/compat share: warnings and refusals as values.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/warning.h>
#include <xent/nn/compat/refused.h>
#include <xent/ops/ops.h>

inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

// Collects the warnings that are raised while it lives.
struct Warnings {
  std::vector<std::string> texts;

  Warnings() : before_(xent::set_warning_handler([this](std::string_view text) { texts.emplace_back(text); })) {}
  ~Warnings() { xent::set_warning_handler(std::move(before_)); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;

 private:
  xent::WarningHandler before_;
};

// Returns "cause: type: words" of what f is refused with, or "accepted".
template <class F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const xent::compat::Refused& refused) {
    return std::string(name(refused.cause())) + ": " + std::string(refused.type()) + ": " + refused.what();
  }
  return "accepted";
}

inline std::vector<double> numbers(const xent::Tensor& x) { return cast(x, xent::DType::f64).to_vector<double>(); }

// Compares element by element; NaN equals NaN.
inline void check_near(const xent::Tensor& got, const std::vector<double>& expected, double tolerance = 2e-6) {
  const std::vector<double> values = numbers(got);
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) {
    CAPTURE(i);
    if (std::isnan(expected[i]) || std::isinf(expected[i])) {
      CHECK(std::isnan(values[i]) == std::isnan(expected[i]));
      CHECK((std::isnan(expected[i]) || values[i] == expected[i]));
    } else {
      CHECK(std::abs(values[i] - expected[i]) <= tolerance * std::max(1.0, std::abs(expected[i])));
    }
  }
}
