// What dropout is called with, for the kernels of every device. Private.
#pragma once

namespace xent {

struct DropoutAttrs {
  double p;
  bool operator==(const DropoutAttrs&) const = default;
};

}  // namespace xent
