#include <xent/core/shape.h>

#include <algorithm>
#include <limits>

#include <xent/core/require.h>

namespace xent {

namespace {

// For messages. Not to be given to require, whose arguments are evaluated also when all is well.
std::string join(std::span<const int64_t> extents) { return fmt::format("[{}]", fmt::join(extents, ", ")); }

}  // namespace

Shape::Shape(std::span<const int64_t> extents) {
  if (extents.size() > max_rank) fail<ShapeError>("shape {}: at most {} axes are supported", join(extents), max_rank);
  bool has_zero = false;
  int64_t product = 1;  // of the extents that are not 0, so that [huge, huge, 0] is refused as well
  for (const int64_t extent : extents) {
    if (extent < 0) fail<ShapeError>("shape {}: extents must not be negative", join(extents));
    if (extent == 0) {
      has_zero = true;
      continue;
    }
    if (product > std::numeric_limits<int64_t>::max() / extent / 16)  // 16: bytes stay within int64 as well
      fail<ShapeError>("shape {}: too many elements", join(extents));
    product *= extent;
  }
  std::ranges::copy(extents, extents_.begin());
  rank_ = static_cast<int>(extents.size());
  elements_ = has_zero ? 0 : product;
}

int Shape::resolve(int64_t axis) const {
  require<ShapeError>(axis >= -rank_ && axis < rank_, "axis {} is not in [{}, {}) of shape {}", axis, -rank_, rank_,
                      *this);
  return static_cast<int>(axis < 0 ? axis + rank_ : axis);
}

int64_t Shape::product(int begin, int end) const {
  int64_t product = 1;
  for (int axis = begin; axis < end; ++axis) product *= extents_[static_cast<size_t>(axis)];
  return product;
}

std::string Shape::str() const { return join({begin(), end()}); }

Shape broadcast(const char* op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::array<int64_t, Shape::max_rank> extents{};
  for (int axis = 1; axis <= rank; ++axis) {  // from the last axis to the first
    const int64_t x = axis <= a.rank() ? a[-axis] : 1;
    const int64_t y = axis <= b.rank() ? b[-axis] : 1;
    require<ShapeError>(x == y || x == 1 || y == 1,
                        "{}: shapes {} and {} do not broadcast: {} against {} (extents must be equal or 1)", op, a, b,
                        x, y);
    extents[static_cast<size_t>(rank - axis)] = x == 1 ? y : x;
  }
  return Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(rank)));
}

}  // namespace xent
