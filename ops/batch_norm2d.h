// What batch_norm2d and batch_norm2d_frozen are called with, for the kernels of every device. Private.
#pragma once

namespace xent {

struct BatchNormAttrs {
  double momentum, epsilon;
  bool operator==(const BatchNormAttrs&) const = default;
};

}  // namespace xent
