// What sgd_step, adam_step and advance are called with, for the kernels of every device. Private.
#pragma once

#include <cstdint>

namespace xent {

struct SgdAttrs {
  double momentum, weight_decay;
  bool nesterov;
  bool operator==(const SgdAttrs&) const = default;
};

struct AdamAttrs {
  double beta1, beta2, epsilon, weight_decay;
  bool decoupled;
  bool operator==(const AdamAttrs&) const = default;
};

struct AdvanceAttrs {
  int64_t by;
  bool operator==(const AdvanceAttrs&) const = default;
};

}  // namespace xent
