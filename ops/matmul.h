// What matmul is called with, for the kernels of every device. Private.
#pragma once

namespace xent {

struct MatmulAttrs {
  bool transpose_a;
  bool transpose_b;
  bool operator==(const MatmulAttrs&) const = default;
};

}  // namespace xent
