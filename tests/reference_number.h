// Numbers of the reference: values in f64 that know how far a computation in another precision may be off.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/ops/ops.h>

namespace reference {

using xent::DType, xent::Tensor;

// A value and its size, which is the same formula with every term taken absolutely: eps * size is what one rounding of
// everything costs.
struct Number {
  double value = 0, size = 0;

  Number(double v = 0) : value(v), size(std::abs(v)) {}
  Number(double v, double s) : value(v), size(s) {}
};
inline Number operator-(Number a) { return {-a.value, a.size}; }
inline Number operator+(Number a, Number b) { return {a.value + b.value, a.size + b.size}; }
inline Number operator-(Number a, Number b) { return {a.value - b.value, a.size + b.size}; }
inline Number operator*(Number a, Number b) { return {a.value * b.value, a.size * b.size}; }
inline Number operator/(Number a, Number b) {
  const double size = std::abs(b.value);
  return {a.value / b.value, a.size / size * std::max(1.0, b.size / size)};
}

// A sum of n terms that are not 0 is off by more than its terms: by growth(n) times that.
inline double growth(size_t terms) { return std::max(1.0, std::sqrt(static_cast<double>(terms)) / 4); }

struct Sum {
  Number total = {};
  size_t terms = 0;

  Sum& operator+=(Number x) {
    total = total + x;
    terms += x.value != 0;
    return *this;
  }
  operator Number() const { return {total.value, total.size * growth(terms)}; }
};

using Numbers = std::vector<Number>;

inline Numbers numbers(const Tensor& x) {
  if (!x) return {};
  const std::vector<double> values = xent::cast(x, DType::f64).to_vector<double>();
  return Numbers(values.begin(), values.end());
}

// Compares a tensor with numbers computed to 3 eps of their size and then rounded once to its type: an element lies
// between what the two ends of that interval round to. Returns what is wrong with the first that does not, or nothing.
inline std::string difference(const Tensor& got, const Numbers& want, double eps) {
  if (got.elements() != static_cast<int64_t>(want.size())) return "has shape " + got.shape().str();
  constexpr double smallest = 1e-37;  // what is below may be lost
  return xent::dispatch(got.dtype(), [&]<class T>() -> std::string {
    const std::vector<T> values = got.to_vector<T>();
    const auto rounded = [](double value) { return xent::convert<double>(xent::convert<T>(value)); };
    for (size_t i = 0; i < want.size(); ++i) {
      const double value = xent::convert<double>(values[i]), exact = want[i].value;
      const double error = std::isfinite(exact) ? 3 * (eps * want[i].size + smallest) : 0;
      if (std::isnan(exact) ? std::isnan(value) : value >= rounded(exact - error) && value <= rounded(exact + error))
        continue;
      return "element " + std::to_string(i) + " is " + std::to_string(value) + " instead of " + std::to_string(exact) +
             ", allowed error " + std::to_string(error / eps) + " eps";
    }
    return "";
  });
}

// The eps of the arithmetic for a type of logits. An f64 reference is itself as far from the truth as an f64 kernel.
inline double eps_of(DType logits) { return logits == DType::f64 ? 0x1p-51 : 0x1p-23; }

}  // namespace reference
