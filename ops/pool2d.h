// What max_pool2d and avg_pool2d are called with, for the kernels of every device. Private.
#pragma once

#include <xent/ops/ops.h>

namespace xent {

struct PoolAttrs {
  Extent2d window, stride, padding;
  bool operator==(const PoolAttrs&) const = default;
};

}  // namespace xent
