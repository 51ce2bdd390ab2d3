#include "golden_compare.h"

#include <cmath>
#include <cstdio>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/nn/compat/refused.h>

namespace golden {

namespace {

bool close(double got, double want, double tolerance) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got);
  if (std::isinf(want) || got == want) return got == want;
  return std::abs(got - want) <= tolerance;
}

std::string text(double value) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%.17g", value);
  return digits;
}

template <class T>
std::optional<std::string> first_difference(const Tensor& got, const Expected& want) {
  const std::vector<T> ours = got.to_vector<T>(), theirs = want.values.to_vector<T>();
  std::optional<std::string> first;
  size_t wrong = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    std::string shown;
    if constexpr (std::is_integral_v<T>) {
      if (ours[i] == theirs[i]) continue;
      shown = std::to_string(ours[i]) + ", want " + std::to_string(theirs[i]) + ", tolerance 0";
    } else {
      const auto g = xent::convert<double>(ours[i]), w = xent::convert<double>(theirs[i]);
      const double tolerance = want.atol + want.rtol * std::abs(w);
      if (close(g, w, tolerance)) continue;
      shown = text(g) + ", want " + text(w) + ", tolerance " + text(tolerance);
    }
    ++wrong;
    if (!first) first = "[" + std::to_string(i) + "] got " + shown;
  }
  if (wrong > 1) *first += " (and " + std::to_string(wrong - 1) + " more)";
  return first;
}

}  // namespace

std::optional<std::string> difference(const Tensor& got, const Expected& want) {
  const auto differs = [](const std::string& what, const auto& ours, const auto& theirs) {
    return " " + what + " got " + ours + ", want " + theirs;
  };
  if (got.dtype() != want.values.dtype())
    return differs("dtype", std::string(name(got.dtype())), std::string(name(want.values.dtype())));
  if (got.shape() != want.values.shape()) return differs("shape", got.shape().str(), want.values.shape().str());
  return xent::dispatch(got.dtype(), [&]<class T>() { return first_difference<T>(got, want); });
}

std::optional<std::string> difference(const char* kind, const Tensors& got, const ExpectedTensors& want) {
  for (const auto& [name, expected] : want) {
    const auto found = got.find(name);
    if (found == got.end() || !found->second) return std::string(kind) + "." + name + " was not computed";
    if (const auto wrong = difference(found->second, expected)) return std::string(kind) + "." + name + *wrong;
  }
  return {};
}

std::string cause_of(const std::exception& error) {
  if (const auto* refused = dynamic_cast<const xent::compat::Refused*>(&error))
    return std::string(xent::compat::name(refused->cause()));
  if (dynamic_cast<const xent::LabelError*>(&error)) return "label_range";
  if (dynamic_cast<const xent::ShapeError*>(&error)) return "shape";
  if (dynamic_cast<const xent::DTypeError*>(&error)) return "type";
  return "?";
}

}  // namespace golden
