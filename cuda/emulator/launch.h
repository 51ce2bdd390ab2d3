// launch: starts a kernel, as <<<>>> would; included by <xent/cuda/launch.cuh>, which declares Launch. The arguments
// are converted to the kernel's own types and copied at once; every thread gets copies of its own. Every pointer among
// them must point into device memory, also those in structs that have a member
//
//   template <class F> void for_each_pointer(F&& f) const { f(logits); f(labels); }
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace xent::emulator {

// Runs body once per thread, in the turn of the stream. Returns cudaErrorInvalidConfiguration for a launch that no GPU
// would take. check is called now and again when the turn has come: in a graph, memory may have been freed by then.
cudaError_t enqueue_kernel(const cuda::Launch& launch, const void* kernel, std::function<void()> check,
                           std::function<void()> body);

// Throws KernelError unless pointer is null or points into device memory that has not been freed.
void check_device_pointer(const void* pointer, const char* kernel, int argument);

template <class T>
void check_argument(const T& value, const char* kernel, int argument) {
  if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>) {
    check_device_pointer(value, kernel, argument);
  } else if constexpr (std::is_class_v<T> && requires { value.for_each_pointer([](const void*) {}); }) {
    value.for_each_pointer([&](const void* pointer) { check_device_pointer(pointer, kernel, argument); });
  }
}

template <class... Parameters, class... Arguments>
cudaError_t launch(const cuda::Launch& launch, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "the kernel takes another number of arguments");
  static_assert(!(std::is_reference_v<Parameters> || ...), "a kernel takes its arguments by value");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "a kernel's arguments are copied as bytes");
  const std::tuple<std::remove_const_t<Parameters>...> values(
      static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  const auto check = [values, name = launch.kernel] {
    int argument = 0;
    std::apply([&](const auto&... value) { (check_argument(value, name, argument++), ...); }, values);
  };
  return enqueue_kernel(launch, reinterpret_cast<const void*>(kernel), check,
                        [kernel, values] { std::apply(kernel, values); });
}

}  // namespace xent::emulator
