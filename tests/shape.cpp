// Shapes: their limits, their axes, and the broadcasting rule.
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/error.h>
#include <xent/core/shape.h>

using namespace xent;

namespace {

constexpr int64_t huge = std::numeric_limits<int64_t>::max();

}  // namespace

TEST_CASE("a shape knows its rank, extents and number of elements") {
  const Shape shape{64, 28, 28, 1};
  CHECK(shape.rank() == 4);
  CHECK(shape.elements() == 50176);
  CHECK(shape[0] == 64);
  CHECK(shape[-1] == 1);
  CHECK(shape[-4] == 64);
  CHECK(shape.str() == "[64, 28, 28, 1]");
  CHECK(std::vector<int64_t>(shape.begin(), shape.end()) == std::vector<int64_t>{64, 28, 28, 1});
}

TEST_CASE("a scalar has rank 0 and one element") {
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{}.str() == "[]");
  CHECK(Shape{} == Shape(std::vector<int64_t>{}));
}

TEST_CASE("an extent of 0 makes a shape without elements") {
  CHECK(Shape{0}.elements() == 0);
  CHECK(Shape{3, 0, 5}.elements() == 0);
  CHECK(Shape{0} != Shape{});
}

TEST_CASE("shapes are equal if all their extents are") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2, 3} != Shape{6});
  CHECK(Shape{2, 3} != Shape{2, 3, 1});
  CHECK(Shape{0, 2} != Shape{0, 3});
}

TEST_CASE("a negative extent is refused") {
  CHECK_THROWS_WITH_AS((Shape{3, -1}), "shape [3, -1]: extents must not be negative", ShapeError);
  CHECK_THROWS_AS(Shape{std::numeric_limits<int64_t>::min()}, ShapeError);
  CHECK_THROWS_AS((Shape{0, -1}), ShapeError);
}

TEST_CASE("eight axes are the most") {
  CHECK(Shape{1, 2, 1, 2, 1, 2, 1, 2}.elements() == 16);
  CHECK_THROWS_WITH_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}),
                       "shape [1, 1, 1, 1, 1, 1, 1, 1, 1]: at most 8 axes are supported", ShapeError);
}

TEST_CASE("a product beyond what can be addressed is refused, also next to an extent of 0") {
  CHECK_THROWS_AS(Shape{huge}, ShapeError);
  CHECK_THROWS_AS((Shape{int64_t{1} << 32, int64_t{1} << 32}), ShapeError);
  CHECK_THROWS_AS((Shape{huge, huge, 0}), ShapeError);
  CHECK_THROWS_AS((Shape{0, huge, huge}), ShapeError);
  CHECK_THROWS_WITH_AS((Shape{int64_t{1} << 30, int64_t{1} << 30}), "shape [1073741824, 1073741824]: too many elements",
                       ShapeError);
  CHECK(Shape{int64_t{1} << 29, int64_t{1} << 29}.elements() == int64_t{1} << 58);  // eight bytes each still fit
}

TEST_CASE("an axis outside [-rank, rank) is refused") {
  const Shape shape{2, 3};
  CHECK(shape.resolve(1) == 1);
  CHECK(shape.resolve(-2) == 0);
  CHECK_THROWS_WITH_AS(shape[2], "axis 2 is not in [-2, 2) of shape [2, 3]", ShapeError);
  CHECK_THROWS_AS(shape[-3], ShapeError);
  CHECK_THROWS_AS(shape.resolve(huge), ShapeError);
  CHECK_THROWS_AS(shape.resolve(std::numeric_limits<int64_t>::min()), ShapeError);
  CHECK_THROWS_AS(Shape{}[0], ShapeError);
  CHECK_THROWS_AS(Shape{}[-1], ShapeError);
}

TEST_CASE("product multiplies a range of axes and is 1 for none") {
  const Shape shape{2, 3, 4};
  CHECK(shape.product(0, 3) == 24);
  CHECK(shape.product(1, 3) == 12);
  CHECK(shape.product(1, 1) == 1);
  CHECK(shape.product(3, 3) == 1);
  CHECK(Shape{2, 0}.product(0, 1) == 2);
}

TEST_CASE("two shapes broadcast by NumPy's rule, in either order") {
  struct Row {
    Shape a, b, both;
  };
  const Row table[] = {
      {{}, {}, {}},
      {{}, {3}, {3}},
      {{3}, {3}, {3}},
      {{1}, {3}, {3}},
      {{64, 10}, {10}, {64, 10}},
      {{64, 10}, {1}, {64, 10}},
      {{64, 10}, {64, 1}, {64, 10}},
      {{64, 1}, {1, 10}, {64, 10}},
      {{8, 1, 6, 1}, {7, 1, 5}, {8, 7, 6, 5}},
      {{1, 1, 1}, {1}, {1, 1, 1}},
      {{0}, {1}, {0}},
      {{0}, {}, {0}},
      {{3, 0}, {1, 1}, {3, 0}},
      {{3, 0}, {0}, {3, 0}},
      {{1, 0}, {3, 1}, {3, 0}},
      {{2, 1, 1, 1, 1, 1, 1, 1}, {2}, {2, 1, 1, 1, 1, 1, 1, 2}},
  };
  for (const Row& row : table) {
    CAPTURE(row.a.str());
    CAPTURE(row.b.str());
    CHECK(broadcast("add", row.a, row.b) == row.both);
    CHECK(broadcast("add", row.b, row.a) == row.both);
  }
}

TEST_CASE("shapes that do not broadcast are named together with the op and the two extents") {
  CHECK_THROWS_WITH_AS(broadcast("add", {64, 10}, {64}),
                       "add: shapes [64, 10] and [64] do not broadcast: 10 against 64 (extents must be equal or 1)",
                       ShapeError);
  const std::pair<Shape, Shape> table[] = {{{2}, {3}}, {{0}, {2}}, {{3, 1, 2}, {3, 3}}, {{4, 5}, {5, 4}}};
  for (const auto& [a, b] : table) {
    CHECK_THROWS_AS(broadcast("mul", a, b), ShapeError);
    CHECK_THROWS_AS(broadcast("mul", b, a), ShapeError);
  }
}

TEST_CASE("a broadcast that would have too many elements is refused") {
  const int64_t large = int64_t{1} << 40;
  CHECK_THROWS_AS(broadcast("add", {large, 1}, {1, large}), ShapeError);
}
