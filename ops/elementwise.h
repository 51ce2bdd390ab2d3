// The scalar functions behind the elementwise ops: y = f(x) and its derivative df, of one float or double, written once
// for the CPU and for CUDA. `reads` says what df takes: the output y where that is enough, because the input's bytes
// can then be dropped; else the input x.
#pragma once

#include <cmath>
#include <numbers>
#include <type_traits>

#include <xent/core/op.h>

#if defined(__CUDACC__)
#define XENT_HOST_DEVICE __host__ __device__
#else
#define XENT_HOST_DEVICE
#endif

namespace xent::scalar {

// clang-format off: a function and its derivative stand under each other

enum class Reads { neither, input, output };

struct Relu {
  static constexpr const char* name = "relu";
  static constexpr Reads reads = Reads::output;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return x <= 0 ? T(0) : x;
  }  // unlike x > 0 ? x : 0, keeps NaN
  template <class T>
  XENT_HOST_DEVICE T df(T y) const {
    return y <= 0 ? T(0) : T(1);
  }
};

struct Tanh {
  static constexpr const char* name = "tanh";
  static constexpr Reads reads = Reads::output;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return std::tanh(x);
  }
  template <class T>
  XENT_HOST_DEVICE T df(T y) const {
    return (1 - y) * (1 + y);
  }  // 1 - y y would cancel near 1
};

struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  static constexpr Reads reads = Reads::output;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    const T e = std::exp(-std::abs(x));  // at most 1, so nothing overflows
    return (x < 0 ? e : T(1)) / (1 + e);
  }
  template <class T>
  XENT_HOST_DEVICE T df(T y) const {
    return y * (1 - y);
  }
};

struct Gelu {
  static constexpr const char* name = "gelu";
  static constexpr Reads reads = Reads::input;

  // The normal distribution function. Written with erfc: 1 + erf cancels for x far below 0.
  template <class T>
  XENT_HOST_DEVICE static T phi(T x) {
    return T(0.5) * std::erfc(-x * static_cast<T>(std::numbers::sqrt2 / 2));
  }
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    const T p = phi(x);
    return p == 0 ? T(0) : x * p;  // the limit at -infinity, where x p is NaN
  }
  template <class T>
  XENT_HOST_DEVICE T df(T x) const {
    const T density = std::exp(T(-0.5) * x * x) * static_cast<T>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    return phi(x) + (density == 0 ? T(0) : x * density);
  }
};

struct Exp {
  static constexpr const char* name = "exp";
  static constexpr Reads reads = Reads::output;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return std::exp(x);
  }
  template <class T>
  XENT_HOST_DEVICE T df(T y) const {
    return y;
  }
};

struct Log {
  static constexpr const char* name = "log";
  static constexpr Reads reads = Reads::input;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return std::log(x);
  }
  template <class T>
  XENT_HOST_DEVICE T df(T x) const {
    return 1 / x;
  }
};

struct Sqrt {
  static constexpr const char* name = "sqrt";
  static constexpr Reads reads = Reads::output;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return std::sqrt(x);
  }
  template <class T>
  XENT_HOST_DEVICE T df(T y) const {
    return T(0.5) / y;
  }
};

// The two below carry their number with them, as the op's attributes.

struct Scale {
  static constexpr const char* name = "scale";
  static constexpr Reads reads = Reads::neither;
  double factor;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return static_cast<T>(factor) * x;
  }
  template <class T>
  XENT_HOST_DEVICE T df(T) const {
    return static_cast<T>(factor);
  }
  bool operator==(const Scale&) const = default;
};

struct Shift {
  static constexpr const char* name = "shift";
  static constexpr Reads reads = Reads::neither;
  double term;
  template <class T>
  XENT_HOST_DEVICE T f(T x) const {
    return x + static_cast<T>(term);
  }
  template <class T>
  XENT_HOST_DEVICE T df(T) const {
    return T(1);
  }
  bool operator==(const Shift&) const = default;
};

// clang-format on

}  // namespace xent::scalar

namespace xent {

// A function's numbers, if it has any, are the op's attributes.
template <class F>
F function_of(const Attrs& attrs) {
  if constexpr (std::is_empty_v<F>) return {};
  else return attrs.as<F>();
}

// What df takes. The derivative of scale and shift is a constant: df takes anything.
template <class F>
const Slice& read_by_df(const Call& call) {
  if constexpr (F::reads == scalar::Reads::input) return call.in[0];
  else if constexpr (F::reads == scalar::Reads::output) return call.out[0];
  else return call.grad_out[0];
}

}  // namespace xent
