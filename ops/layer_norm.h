// What layer_norm is called with, for the kernels of every device. Private.
#pragma once

#include <cstdint>

#include <xent/core/op.h>

namespace xent {

struct LayerNormAttrs {
  int64_t axes;
  double epsilon;
  bool operator==(const LayerNormAttrs&) const = default;
};

// x as a matrix: the last axes are its columns.
struct LayerNormMatrix {
  int64_t rows, columns;

  LayerNormMatrix(const Shape& x, int64_t axes)
      : rows(x.product(0, x.rank() - static_cast<int>(axes))),
        columns(x.product(x.rank() - static_cast<int>(axes), x.rank())) {}
};

}  // namespace xent
