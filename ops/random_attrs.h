// What uniform and normal are called with, for the kernels of every device. Private.
#pragma once

#include <xent/core/dtype.h>
#include <xent/core/shape.h>

namespace xent {

struct RandomAttrs {
  Shape shape;
  DType dtype;
  double first, second;  // low and high, or mean and deviation
  bool operator==(const RandomAttrs&) const = default;
};

}  // namespace xent
