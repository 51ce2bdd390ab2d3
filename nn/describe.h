// What layers share in describe(). Private.
#pragma once

#include <string>

#include <xent/core/require.h>
#include <xent/ops/ops.h>

namespace xent {

// Returns "3", or "5x3".
inline std::string str(Extent2d extent) {
  return extent.height == extent.width ? fmt::format("{}", extent.height)
                                       : fmt::format("{}x{}", extent.height, extent.width);
}

// Returns ", relu" and the like; nothing for no activation.
inline const char* suffix(Activation activation) {
  switch (activation) {
    case Activation::none: return "";
    case Activation::relu: return ", relu";
    case Activation::tanh: return ", tanh";
    case Activation::sigmoid: return ", sigmoid";
  }
  return "";
}

}  // namespace xent
