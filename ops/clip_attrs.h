// What clip_to_norm is called with, for the kernels of every device. Private.
#pragma once

namespace xent {

struct ClipAttrs {
  double max_norm;
  bool operator==(const ClipAttrs&) const = default;
};

}  // namespace xent
