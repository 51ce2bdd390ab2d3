// What layers share in describe(). Private.
#pragma once

#include <xent/ops/ops.h>

namespace xent {

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
