// Shape: the extents of a tensor, at most eight of them.
//
//   Shape images{64, 28, 28, 1};
//   images.rank();       // 4
//   images[-1];          // 1: negative axes count from the end
//   images.elements();   // 50176
//   Shape{}.elements();  // 1: a scalar is written []
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>

namespace xent {

class Shape {
 public:
  static constexpr int max_rank = 8;

  Shape() = default;  // [], a scalar

  // Makes a shape. Throws ShapeError for a negative extent, more than eight of them, or a product beyond int64.
  Shape(std::initializer_list<int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const int64_t> extents);

  int rank() const { return rank_; }
  int64_t elements() const { return elements_; }

  // Returns the extent of an axis. Throws ShapeError outside [-rank, rank).
  int64_t operator[](int64_t axis) const { return extents_[static_cast<size_t>(resolve(axis))]; }

  // Turns an axis that may count from the end into one in [0, rank). Throws ShapeError outside [-rank, rank).
  int resolve(int64_t axis) const;

  // Returns the product of the extents of axes [begin, end); 1 if there are none.
  int64_t product(int begin, int end) const;

  const int64_t* begin() const { return extents_.data(); }
  const int64_t* end() const { return extents_.data() + rank_; }

  std::string str() const;  // "[64, 28, 28, 1]"

  friend bool operator==(const Shape& a, const Shape& b) = default;  // unused extents are 0

 private:
  std::array<int64_t, max_rank> extents_{};
  int64_t elements_ = 1;
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape);

// Returns the shape two operands take together by NumPy's rule: aligned at the last axis, an extent of 1 stretches.
//
//   broadcast("add", {64, 10}, {10});  // [64, 10]
//
// Throws ShapeError naming the op and both shapes.
Shape broadcast(const char* op, const Shape& a, const Shape& b);

}  // namespace xent
