// convert<To>(value): between any two element types, defined for every value. To an integer: NaN becomes 0 and what is
// out of range becomes the nearest integer there is (a plain cast would be undefined behaviour).
#pragma once

#include <limits>
#include <type_traits>

#include <xent/core/dtype.h>

namespace xent {

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_class_v<From>) {
    return convert<To>(static_cast<float>(value));
  } else if constexpr (std::is_class_v<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // 2^bits is exact in any floating type, the largest integer is not.
    constexpr From beyond = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
    if (value != value) return 0;
    if (value >= beyond) return std::numeric_limits<To>::max();
    if (value <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace xent
