// convert<To>(value): between any two element types, defined for every value. To an integer: NaN becomes 0 and what is
// out of range becomes the nearest integer there is (a plain cast would be undefined behaviour, or wrap around).
#pragma once

#include <bit>
#include <limits>
#include <type_traits>
#include <utility>

#include <xent/core/dtype.h>

namespace xent {

// Rounds to a float whose last bit is 1 if anything was lost. Rounding that once more, to 16 bits, gives what rounding
// the double at once would; a float rounded to nearest may be a tie that the double was not.
constexpr float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  const auto back = static_cast<double>(nearest);
  if (back == value || value != value) return nearest;
  const uint32_t word = std::bit_cast<uint32_t>(nearest);
  const bool away = value > 0 ? back > value : back < value;  // from zero
  return std::bit_cast<float>((away ? word - 1 : word) | 1u);
}

template <class T>
inline constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <class To, class From>
constexpr To convert(From value) {
  if constexpr (std::is_class_v<From>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_class_v<To>) {
    if constexpr (std::is_same_v<From, float>) return To(value);
    else return To(round_to_odd(static_cast<double>(value)));
  } else if constexpr (std::is_floating_point_v<From> && is_integer<To>) {
    // 2^bits is exact in any floating type, the largest integer is not.
    constexpr From beyond = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
    if (value != value) return 0;
    if (value >= beyond) return std::numeric_limits<To>::max();
    if (value <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else if constexpr (is_integer<From> && is_integer<To>) {
    if (std::cmp_greater(value, std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    if (std::cmp_less(value, std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace xent
