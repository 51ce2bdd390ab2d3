// What linear is called with, for the kernels of every device. Private.
#pragma once

#include <xent/ops/ops.h>

namespace xent {

struct LinearAttrs {
  Activation activation;
  bool operator==(const LinearAttrs&) const = default;
};

}  // namespace xent
