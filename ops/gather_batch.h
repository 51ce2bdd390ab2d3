// What gather_batch is called with, for the kernels of every device. Private.
#pragma once

namespace xent {

struct GatherBatchAttrs {
  double scale, offset;
  bool operator==(const GatherBatchAttrs&) const = default;
};

}  // namespace xent
