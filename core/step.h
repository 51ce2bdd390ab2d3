// Step: wraps a function of tensors so that it runs eagerly first, is recorded once, and is then replayed.
//
//   Step train_step([&](const Tensor& images, const Tensor& labels) {
//     Tape tape;
//     Tensor loss = softmax_cross_entropy(model(images), labels);  // []
//     optimizer.step(tape.backward(loss));
//     return loss;
//   });
//   Tensor loss = train_step(batch.images, batch.labels);
//
// Call 1 of a shape runs, call 2 runs and notes every launch, call 3 and later run the notes: no shape checks, no tape,
// no allocation. It works because nothing in a step depends on the host but its shapes. What could break that is an
// exception: reading a value inside, making state inside, a result of an earlier call. The one thing that cannot be
// seen, a host value that the function reads (an epoch, a flag), is found by set_replay(Replay::verify).
#pragma once

#include <array>
#include <memory>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include <xent/core/tensor.h>

namespace xent {

// How Steps run from now on, in all threads. Starts as the environment says: XENT_REPLAY=on|off|verify.
enum class Replay {
  on,      // replay from the third call of a shape
  off,     // every call runs the function
  verify,  // call 3 and every tenth from there runs the function and compares launches and results with the plan
};
void set_replay(Replay mode);
Replay replay();

// What Step is made of, without the function's own signature.
class StepRunner {
 public:
  struct Function {
    virtual ~Function() = default;
    virtual Tensors operator()(std::span<const Tensor> inputs) = 0;
  };

  explicit StepRunner(std::unique_ptr<Function> function);
  template <class F>
    requires std::is_invocable_r_v<Tensors, F&, std::span<const Tensor>>
  explicit StepRunner(F function) : StepRunner(std::make_unique<Owned<F>>(std::move(function))) {}
  ~StepRunner();
  StepRunner(StepRunner&&) noexcept;
  StepRunner& operator=(StepRunner&&) noexcept;

  Tensors operator()(std::span<const Tensor> inputs);

  size_t plans() const;                            // one per combination of input shapes, at most eight
  size_t launches(std::span<const Tensor> inputs) const;  // recorded for these shapes; 0 before the second call

 private:
  template <class F>
  struct Owned : Function {  // std::function would cost every user a fifth of a second of compile time
    explicit Owned(F f) : function(std::move(f)) {}
    Tensors operator()(std::span<const Tensor> inputs) override { return function(inputs); }
    F function;
  };

  struct State;
  std::unique_ptr<State> state_;
};

namespace detail {

// Results: a Tensor, nothing, or an array, pair or tuple of Tensors.
template <class Result>
Tensors pack_results(const Result& result) {
  if constexpr (std::is_same_v<Result, Tensor>) return {result};
  else return std::apply([](const auto&... tensors) { return Tensors{tensors...}; }, result);
}

template <class Result>
Result unpack_results(Tensors& tensors) {
  if constexpr (std::is_same_v<Result, Tensor>) return std::move(tensors[0]);
  else return [&]<size_t... I>(std::index_sequence<I...>) {
    return Result{std::move(tensors[I])...};
  }(std::make_index_sequence<std::tuple_size_v<Result>>{});
}

template <class F, size_t... I>
decltype(auto) call_with(F& function, [[maybe_unused]] std::span<const Tensor> inputs, std::index_sequence<I...>) {
  return function(inputs[I]...);
}

// The number of parameters of a callable with one operator().
template <class T> struct Arity : Arity<decltype(&T::operator())> {};
// clang-format off
template <class C, class R, class... A> struct Arity<R (C::*)(A...)> : std::integral_constant<size_t, sizeof...(A)> {};
template <class C, class R, class... A> struct Arity<R (C::*)(A...) const> : Arity<R (C::*)(A...)> {};
template <class C, class R, class... A> struct Arity<R (C::*)(A...) noexcept> : Arity<R (C::*)(A...)> {};
template <class C, class R, class... A> struct Arity<R (C::*)(A...) const noexcept> : Arity<R (C::*)(A...)> {};
template <class R, class... A> struct Arity<R (*)(A...)> : std::integral_constant<size_t, sizeof...(A)> {};
// clang-format on

template <class R>
inline constexpr bool is_result =
    std::is_void_v<R> || std::is_same_v<R, Tensor> || requires { std::tuple_size<R>::value; };

}  // namespace detail

template <class F>
class Step {
  static_assert(std::is_pointer_v<F> || requires { &F::operator(); },
                "Step: the function takes const Tensor& parameters, none of them auto");
  static constexpr size_t inputs = detail::Arity<F>::value;
  using Indices = std::make_index_sequence<inputs>;
  using Result = decltype(detail::call_with(std::declval<F&>(), std::span<const Tensor>(), Indices{}));
  static_assert(detail::is_result<Result>,
                "Step: the function returns Tensor, void, or an array, pair or tuple of Tensors");

 public:
  explicit Step(F function)
      : runner_([function = std::move(function)](std::span<const Tensor> tensors) mutable -> Tensors {
          if constexpr (std::is_void_v<Result>) {
            detail::call_with(function, tensors, Indices{});
            return {};
          } else {
            return detail::pack_results<Result>(detail::call_with(function, tensors, Indices{}));
          }
        }) {}

  // Runs the function on these inputs. Results are valid until the next call; clone() one to keep it.
  template <class... T>
    requires(sizeof...(T) == inputs && (std::is_convertible_v<const T&, const Tensor&> && ...))
  Result operator()(const T&... tensors) {
    const std::array<Tensor, inputs> packed{tensors...};
    Tensors results = runner_(std::span<const Tensor>(packed.data(), packed.size()));
    if constexpr (!std::is_void_v<Result>) return detail::unpack_results<Result>(results);
  }

  const StepRunner& runner() const { return runner_; }

 private:
  StepRunner runner_;
};

}  // namespace xent
