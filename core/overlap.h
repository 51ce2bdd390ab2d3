// overlap: says whether two slices have bytes in common. Private.
#pragma once

#include <functional>

#include <xent/core/op.h>

namespace xent {

inline const std::byte* end_of(const Slice& x) {
  return x.as<std::byte>() + static_cast<size_t>(x.shape.elements()) * size_of(x.dtype);
}

inline bool overlap(const Slice& a, const Slice& b) {
  const auto before = std::less<const std::byte*>();  // < is for pointers into one array
  return a && b && before(a.as<std::byte>(), end_of(b)) && before(b.as<std::byte>(), end_of(a));
}

}  // namespace xent
