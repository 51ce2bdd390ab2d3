// Centred<T>: subtracts a mean that is known in f64 without a loss, in T: x - mean = (x - high) - low. With a mean of
// 1e4, one rounded to f32 would be off by up to 5e-4, and so would be everything that is normalised with it. Private.
#pragma once

namespace xent {

template <class T>
struct Centred {
  T high, low;

  constexpr explicit Centred(double mean)
      : high(static_cast<T>(mean)), low(static_cast<T>(mean - static_cast<double>(high))) {}
  constexpr T operator()(T x) const { return (x - high) - low; }
};

}  // namespace xent
