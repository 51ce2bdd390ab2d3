// What slice_rows is called with, for the kernels of every device. Private.
#pragma once

#include <cstdint>

namespace xent {

struct RowsAttrs {
  int64_t begin, end;
  bool operator==(const RowsAttrs&) const = default;
};

}  // namespace xent
