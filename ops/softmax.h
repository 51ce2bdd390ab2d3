// The attributes of softmax and log_softmax, for the kernels of every device. Private.
#pragma once

namespace xent {

struct SoftmaxAttrs {
  int axis;  // resolved: [0, rank)
  bool operator==(const SoftmaxAttrs&) const = default;
};

}  // namespace xent
