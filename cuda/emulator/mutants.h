// What cuda/emulator/mutants writes into a copy of the kernels: changes that the environment switches on one at a time,
// XENT_MUTANT=7, so that all of them are compiled once.
//
//   xent::mutants::on<6>() ? void() : __syncthreads();             // without the barrier
//   i < xent::mutants::switched<7> > count                         // i <= count, by two operators of equal rank
//   const xent::mutants::Narrow<8, int64_t> row = blockIdx.x;      // an int
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

namespace xent::mutants {

// Which mutants the program has come by: where XENT_MUTANTS_REACHED names a file, it has them in the end.
struct State {
  static constexpr int most = 1 << 14;
  int chosen = std::getenv("XENT_MUTANT") ? std::atoi(std::getenv("XENT_MUTANT")) : -1;
  std::atomic<bool> reached[most] = {};  // a relaxed atomic is no race, and orders nothing
  std::atomic<bool> numbers[most] = {};  // comparisons of floating-point numbers, which test no bounds

  ~State() {
    const char* const name = std::getenv("XENT_MUTANTS_REACHED");
    std::FILE* const file = name ? std::fopen(name, "a") : nullptr;
    if (!file) return;
    for (int i = 0; i < most; ++i) {
      if (reached[i].load(std::memory_order_relaxed)) std::fprintf(file, "%d\n", i);
      if (numbers[i].load(std::memory_order_relaxed)) std::fprintf(file, "numbers %d\n", i);
    }
    std::fclose(file);
  }
};
inline State state;

template <int mutant>
constexpr bool on() {
  if (std::is_constant_evaluated()) return false;
  std::atomic<bool>& reached = state.reached[mutant];
  if (!reached.load(std::memory_order_relaxed)) reached.store(true, std::memory_order_relaxed);
  return state.chosen == mutant;
}

template <int mutant>
constexpr void compares_numbers() {
  if (!std::is_constant_evaluated()) state.numbers[mutant].store(true, std::memory_order_relaxed);
}

// Comparisons. Those of floating-point numbers are left alone.
template <int mutant>
struct Switched {};
template <int mutant>
inline constexpr Switched<mutant> switched;

template <int mutant, class A, bool strict>
struct Compared {
  A a;
};
template <int mutant, class A>
constexpr Compared<mutant, A, true> operator<(A a, Switched<mutant>) {
  return {a};
}
template <int mutant, class A>
constexpr Compared<mutant, A, false> operator>=(A a, Switched<mutant>) {
  return {a};
}
template <int mutant, class A, class B>
constexpr bool operator>(Compared<mutant, A, true> left, B b) {
  if constexpr (std::is_floating_point_v<A> || std::is_floating_point_v<B>)
    return compares_numbers<mutant>(), left.a < b;
  return on<mutant>() ? left.a <= b : left.a < b;
}
template <int mutant, class A, class B>
constexpr bool operator>(Compared<mutant, A, false> left, B b) {
  if constexpr (std::is_floating_point_v<A> || std::is_floating_point_v<B>)
    return compares_numbers<mutant>(), left.a >= b;
  return on<mutant>() ? left.a > b : left.a >= b;
}

template <class T>
concept Number = std::is_arithmetic_v<T>;

// A T that is an N, of 32 bits, when the mutant is on; and so are the sums and products that it makes 32 bits wide.
template <int mutant, class T, class N = std::conditional_t<std::is_signed_v<T>, int, unsigned>>
class Narrow {
 public:
  Narrow() = default;
  template <Number U>
  constexpr Narrow(U value) : value_(on<mutant>() ? static_cast<T>(static_cast<N>(value)) : static_cast<T>(value)) {}
  template <int other, class U, class M>
  constexpr Narrow(Narrow<other, U, M> value) : Narrow(static_cast<U>(value)) {}
  constexpr operator T() const { return value_; }
  constexpr N narrow() const { return static_cast<N>(value_); }

  // clang-format off
  template <class U> constexpr Narrow& operator+=(U b) { return *this = Narrow(static_cast<T>(*this + b)); }
  template <class U> constexpr Narrow& operator-=(U b) { return *this = Narrow(static_cast<T>(*this - b)); }
  template <class U> constexpr Narrow& operator*=(U b) { return *this = Narrow(static_cast<T>(*this * b)); }
  template <class U> constexpr Narrow& operator/=(U b) { return *this = Narrow(static_cast<T>(*this / b)); }
  template <class U> constexpr Narrow& operator%=(U b) { return *this = Narrow(static_cast<T>(*this % b)); }
  constexpr Narrow& operator++() { return *this += 1; }
  constexpr Narrow& operator--() { return *this -= 1; }
  // clang-format on

 private:
  T value_;
};

// R as the mutant has it: N if that has 32 bits, and R itself if it is wide again.
template <int mutant, class R, class N>
using Result = std::conditional_t<std::is_integral_v<N> && sizeof(N) == 4, Narrow<mutant, R, N>, R>;

#define XENT_MUTANT_OPERATOR(op)                                                                                       \
  template <int mutant, class T, class N, Number U>                                                                    \
  constexpr auto operator op(Narrow<mutant, T, N> a, U b) {                                                            \
    using R = decltype(T(1) op b);                                                                                     \
    using Mutant = Result<mutant, R, decltype(N(1) op b)>;                                                             \
    return Mutant(on<mutant>() ? static_cast<R>(a.narrow() op b) : static_cast<T>(a) op b);                            \
  }                                                                                                                    \
  template <int mutant, class T, class N, Number U>                                                                    \
  constexpr auto operator op(U a, Narrow<mutant, T, N> b) {                                                            \
    using R = decltype(a op T(1));                                                                                     \
    using Mutant = Result<mutant, R, decltype(a op N(1))>;                                                             \
    return Mutant(on<mutant>() ? static_cast<R>(a op b.narrow()) : a op static_cast<T>(b));                            \
  }                                                                                                                    \
  template <int mutant, class T, class N, int other, class U, class M>                                                 \
  constexpr auto operator op(Narrow<mutant, T, N> a, Narrow<other, U, M> b) {                                          \
    if constexpr (mutant == other) {                                                                                   \
      using R = decltype(T(1) op U(1));                                                                                \
      using Mutant = Result<mutant, R, decltype(N(1) op M(1))>;                                                        \
      return Mutant(on<mutant>() ? static_cast<R>(a.narrow() op b.narrow()) : static_cast<T>(a) op static_cast<U>(b)); \
    } else {                                                                                                           \
      return static_cast<T>(a) op static_cast<U>(b); /* one of them is wide */                                         \
    }                                                                                                                  \
  }
XENT_MUTANT_OPERATOR(+)
XENT_MUTANT_OPERATOR(-)
XENT_MUTANT_OPERATOR(*)
XENT_MUTANT_OPERATOR(/)
XENT_MUTANT_OPERATOR(%)
#undef XENT_MUTANT_OPERATOR

}  // namespace xent::mutants
