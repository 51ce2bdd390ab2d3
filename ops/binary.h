// The scalar functions behind the ops of two operands, y = f(a, b), and the terms of their gradients, written once for
// the CPU and for CUDA; and which operand was stretched how. `reads` says whether da and db take a and b. Private.
#pragma once

#include <xent/core/op.h>
#include <xent/ops/elementwise.h>

namespace xent {

namespace scalar {

// clang-format off: a function and its terms stand under each other

struct Add {
  static constexpr const char* name = "add";
  static constexpr Mask reads = nothing;
  template <class T>
  XENT_HOST_DEVICE static T f(T a, T b) {
    return a + b;
  }
  template <class T>
  XENT_HOST_DEVICE static T da(T dy, T, T) {
    return dy;
  }
  template <class T>
  XENT_HOST_DEVICE static T db(T dy, T, T) {
    return dy;
  }
};

struct Sub {
  static constexpr const char* name = "sub";
  static constexpr Mask reads = nothing;
  template <class T>
  XENT_HOST_DEVICE static T f(T a, T b) {
    return a - b;
  }
  template <class T>
  XENT_HOST_DEVICE static T da(T dy, T, T) {
    return dy;
  }
  template <class T>
  XENT_HOST_DEVICE static T db(T dy, T, T) {
    return -dy;
  }
};

struct Mul {
  static constexpr const char* name = "mul";
  static constexpr Mask reads = everything;
  template <class T>
  XENT_HOST_DEVICE static T f(T a, T b) {
    return a * b;
  }
  template <class T>
  XENT_HOST_DEVICE static T da(T dy, T, T b) {
    return dy * b;
  }
  template <class T>
  XENT_HOST_DEVICE static T db(T dy, T a, T) {
    return dy * a;
  }
};

struct Div {
  static constexpr const char* name = "div";
  static constexpr Mask reads = everything;
  template <class T>
  XENT_HOST_DEVICE static T f(T a, T b) {
    return a / b;
  }
  template <class T>
  XENT_HOST_DEVICE static T da(T dy, T, T b) {
    return dy / b;
  }
  template <class T>
  XENT_HOST_DEVICE static T db(T dy, T a, T b) {
    return -dy * (a / b) / b;
  }  // b b would overflow early
};

// clang-format on

}  // namespace scalar

inline bool is_stretched(const Shape& operand, const Shape& y) { return operand.elements() != y.elements(); }

// Returns the axes of y along which an operand was stretched.
inline Mask stretched_axes(const Shape& operand, const Shape& y) {
  Mask axes = 0;
  for (int from_last = 1; from_last <= y.rank(); ++from_last)
    if (from_last > operand.rank() || operand[-from_last] != y[-from_last]) axes |= Mask{1} << (y.rank() - from_last);
  return axes;
}

}  // namespace xent
