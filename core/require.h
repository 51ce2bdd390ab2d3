// require: the one way to throw. Private (it includes fmt); public headers include error.h instead.
//
//   require<ShapeError>(x.rank() == 2, "matmul: left is {}, expected a matrix", x.shape());
#pragma once

#include <fmt/format.h>

#include <xent/core/device.h>
#include <xent/core/dtype.h>
#include <xent/core/error.h>
#include <xent/core/shape.h>

template <>
struct fmt::formatter<xent::Shape> : fmt::formatter<std::string> {
  template <class Context>
  auto format(const xent::Shape& shape, Context& context) const {
    return fmt::formatter<std::string>::format(shape.str(), context);
  }
};

template <>
struct fmt::formatter<xent::DType> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(xent::DType dtype, Context& context) const {
    return fmt::formatter<std::string_view>::format(xent::name(dtype), context);
  }
};

template <>
struct fmt::formatter<xent::Device> : fmt::formatter<std::string> {
  template <class Context>
  auto format(xent::Device device, Context& context) const {
    return fmt::formatter<std::string>::format(device.str(), context);
  }
};

namespace xent {

template <class E, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw E(fmt::format(text, std::forward<Args>(args)...));
}

template <class E, class... Args>
void require(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    fail<E>(text, std::forward<Args>(args)...);
}

}  // namespace xent
