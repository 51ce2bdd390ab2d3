// What concat is called with, and where its parts lie, for the kernels of every device. Private.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <xent/core/op.h>

namespace xent {

struct ConcatAttrs {
  int64_t axis;  // may count from the end
  bool operator==(const ConcatAttrs&) const = default;
};

// Some bytes of every row of a tensor.
struct Columns {
  std::byte* data;
  int64_t stride;  // from row to row
};

// Calls copy(whole, part, rows, width) for every input: where it lies in the joined tensor, and the input itself.
template <class Copy>
void each_part(const Slice& whole, std::span<const Slice> parts, int64_t given_axis, const Copy& copy) {
  const int axis = whole.shape.resolve(given_axis), rank = whole.shape.rank();
  const int64_t rows = whole.shape.product(0, axis);
  const int64_t cell = whole.shape.product(axis + 1, rank) * static_cast<int64_t>(size_of(whole.dtype));
  if (whole.shape.elements() == 0) return;
  auto* at = whole.as<std::byte>();
  for (const Slice& part : parts) {
    if (part.shape.rank() == 0) continue;  // not given
    const int64_t width = part.shape[axis] * cell;
    if (part && width > 0)
      copy(Columns{at, whole.shape[axis] * cell}, Columns{part.as<std::byte>(), width}, rows, width);
    at += width;
  }
}

}  // namespace xent
