// What the metrics are called with, for the kernels of every device. Private.
#pragma once

#include <cstdint>

#include <xent/core/op.h>

namespace xent {

struct MeanAttrs {
  int64_t count;
  bool operator==(const MeanAttrs&) const = default;
};

struct CorrectAttrs {
  int64_t top;
  bool operator==(const CorrectAttrs&) const = default;
};

// Throws ArgumentError if accumulate_confusion's labels are the counts themselves: one that is counted up may leave
// [0, classes).
void require_own_labels(const Call& call);

}  // namespace xent
