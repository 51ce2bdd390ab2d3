#include "outcome.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include <xent/core/warning.h>
#include <xent/nn/compat/refused.h>

namespace conformance {

using namespace xent;

namespace {

// Four digits are enough to tell numbers apart, and few enough for a table. What is left of a difference of rounded
// numbers is another on the next machine: that and -0 are printed as 0.
std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", std::abs(value) < 1e-6 ? 0 : value);
  return text.data();
}

std::string list(const Numbers& numbers, size_t columns) {
  constexpr size_t most = 12;
  std::string text;
  for (size_t i = 0; i < numbers.size() && i < most; ++i)
    text += (i == 0 ? "" : i % columns == 0 ? "; " : " ") + number(numbers[i]);
  if (numbers.size() > most) text += " ...";
  return numbers.empty() ? "empty" : text;
}

bool close(const Numbers& a, const Numbers& b) {
  constexpr double tolerance = 1e-6;
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    const bool same = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])) ||
                      std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(b[i]));
    if (!same) return false;
  }
  return true;
}

Numbers numbers(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

size_t columns(const Tensor& x) { return x.rank() > 0 && x.elements() > 0 ? static_cast<size_t>(x.shape()[-1]) : 1; }

std::string type_of(const Error& error) {
  if (const auto* refused = dynamic_cast<const compat::Refused*>(&error)) return std::string(refused->type());
  if (dynamic_cast<const LabelError*>(&error)) return "LabelError";
  if (dynamic_cast<const ShapeError*>(&error)) return "ShapeError";
  if (dynamic_cast<const DTypeError*>(&error)) return "DTypeError";
  if (dynamic_cast<const ArgumentError*>(&error)) return "ArgumentError";
  return "Error";
}

// Runs body and notes an exception and whether there was a warning.
Outcome noted(const std::function<void(Outcome&)>& body) {
  Outcome outcome;
  const WarningHandler before = set_warning_handler([&](std::string_view) { outcome.warned = true; });
  try {
    body(outcome);
  } catch (const Error& error) {
    outcome.loss = outcome.gradient = std::nullopt;
    outcome.type = type_of(error);
    outcome.words = error.what();
  }
  set_warning_handler(before);
  return outcome;
}

}  // namespace

std::string Outcome::str() const {
  std::string text;
  if (refused()) text = type + ": " + words;
  if (loss) text += "loss " + list(*loss, loss->size() + 1);
  if (gradient) text += (loss ? ", gradient " : "gradient ") + list(*gradient, columns);
  return warned ? text + ", and a warning" : text;
}

std::string verdict(const Case& tested, const Outcome& outcome) {
  using Kind = Expected::Kind;
  const Expected& expected = tested.expected;
  const bool numbers_agree = !outcome.refused() && close(outcome.loss.value_or(Numbers{}), expected.loss) &&
                             close(outcome.gradient.value_or(Numbers{}), expected.gradient);
  if (expected.warns != outcome.warned) return "WRONG";
  switch (expected.kind) {
    case Kind::gives: return numbers_agree ? "same" : "WRONG";
    case Kind::raises:
      return outcome.type == expected.type && outcome.words.find(expected.words) != std::string::npos ? "same error"
                                                                                                      : "WRONG";
    case Kind::undefined: return outcome.refused() ? "refused" : "WRONG";
    case Kind::defined: return numbers_agree ? "defined" : "WRONG";
    case Kind::differs: return numbers_agree ? "differs" : "WRONG";
    case Kind::stricter: return outcome.refused() ? "stricter" : "WRONG";
  }
  return "WRONG";
}

Outcome on_tape(const Tensor& x, const std::function<Tensor()>& loss) {
  return noted([&](Outcome& outcome) {
    Tape tape;
    tape.watch(x);
    const Tensor y = loss();
    outcome.loss = numbers(y);
    const Tensor gradient = tape.backward(y, {.upstream = Tensor::ones(y.shape(), y.dtype())})[x];
    outcome.gradient = numbers(gradient);
    outcome.columns = columns(gradient);
  });
}

Outcome gradient_of(const std::function<Tensor()>& gradient) {
  return noted([&](Outcome& outcome) {
    const Tensor x = gradient();
    outcome.gradient = numbers(x);
    outcome.columns = columns(x);
  });
}

Tensor matrix(std::vector<Numbers> rows, DType dtype) {
  const auto count = static_cast<int64_t>(rows.size());
  Numbers all;
  for (const Numbers& row : rows) all.insert(all.end(), row.begin(), row.end());
  return vector(all, dtype).reshape({count, count > 0 ? static_cast<int64_t>(rows[0].size()) : 2});
}

Tensor vector(const Numbers& numbers, DType dtype) {
  return cast(Tensor::from(numbers, {static_cast<int64_t>(numbers.size())}), dtype);
}

Tensor labels(const std::vector<int64_t>& numbers) {
  return Tensor::from(numbers, {static_cast<int64_t>(numbers.size())});
}

Tensor quarters(DType dtype) { return matrix({{0, ln3}, {ln3, 0}}, dtype); }

Tensor log_quarters() { return matrix({{-ln4, -ln43}, {-ln43, -ln4}}); }

}  // namespace conformance
