// permute and concat against the plainest index arithmetic, in every dtype.
#include <algorithm>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/tape.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

using namespace xent;

namespace {

using Doubles = std::vector<double>;
using Axes = std::vector<int64_t>;

constexpr DType dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64};

Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

Tensor counting(const Shape& shape, DType dtype) {
  Doubles values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 251);  // exact in every dtype
  return cast(Tensor::from(values, shape), dtype);
}

Axes coordinates(int64_t index, const Shape& shape) {
  Axes at(static_cast<size_t>(shape.rank()));
  for (size_t k = at.size(); k-- > 0;) {
    at[k] = index % shape[static_cast<int64_t>(k)];
    index /= shape[static_cast<int64_t>(k)];
  }
  return at;
}

int64_t index_of(const Axes& at, const Shape& shape) {
  int64_t index = 0;
  for (size_t k = 0; k < at.size(); ++k) index = index * shape[static_cast<int64_t>(k)] + at[k];
  return index;
}

Shape permuted(const Shape& x, const Axes& axes) {
  Axes extents;
  for (const int64_t axis : axes) extents.push_back(x[axis]);
  return Shape(std::span<const int64_t>(extents));
}

Doubles permute_plainly(const Doubles& x, const Shape& shape, const Axes& axes) {
  const Shape to = permuted(shape, axes);
  Doubles y(x.size());
  for (int64_t i = 0; i < to.elements(); ++i) {
    const Axes at = coordinates(i, to);
    Axes from(at.size());
    for (size_t k = 0; k < at.size(); ++k) from[static_cast<size_t>(axes[k])] = at[k];
    y[static_cast<size_t>(i)] = x[static_cast<size_t>(index_of(from, shape))];
  }
  return y;
}

void check_permute(const Shape& shape, const Axes& axes, DType dtype) {
  const Tensor x = counting(shape, dtype), y = permute(x, axes);
  CHECK(y.shape() == permuted(shape, axes));
  CHECK(y.dtype() == dtype);
  CHECK(doubles(y) == permute_plainly(doubles(x), shape, axes));
}

}  // namespace

TEST_CASE("permute puts every element where index arithmetic does, for all orders of four axes") {
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{3, 1, 2, 1}, Shape{1, 1, 1, 1}, Shape{2, 0, 3, 4}}) {
    Axes axes = {0, 1, 2, 3};
    do check_permute(shape, axes, DType::f32);
    while (std::next_permutation(axes.begin(), axes.end()));
  }
}

TEST_CASE("permute takes every dtype, every rank, and sizes of many tiles") {
  for (const DType dtype : dtypes) {
    check_permute({33, 65}, {1, 0}, dtype);
    check_permute({5, 7, 3}, {2, 0, 1}, dtype);
  }
  check_permute({}, {}, DType::f32);
  check_permute({5}, {0}, DType::f32);
  check_permute({2, 1, 3, 2, 2, 1, 2, 3}, {7, 0, 6, 1, 5, 2, 4, 3}, DType::i32);
  check_permute({300, 257}, {1, 0}, DType::f64);
  check_permute({3, 5000}, {1, 0}, DType::f32);
  check_permute({5000, 3}, {1, 0}, DType::f32);
  check_permute({4, 30, 31, 3}, {0, 3, 1, 2}, DType::f32);
  check_permute({4, 3, 30, 31}, {0, 2, 3, 1}, DType::f32);
  check_permute({3, 40, 1000}, {1, 0, 2}, DType::f32);
  check_permute({2, 3, 70000}, {1, 0, 2}, DType::u8);  // rows longer than a chunk
}

TEST_CASE("negative axes count from the end") {
  const Tensor x = counting({2, 3, 4}, DType::f32);
  CHECK(doubles(permute(x, {-1, 0, -2})) == doubles(permute(x, {2, 0, 1})));
}

TEST_CASE("the gradient of permute goes back by the inverse") {
  const Tensor x = normal_sample({3, 40, 5, 2}, DType::f64, 1), dy = normal_sample({5, 3, 2, 40}, DType::f64, 2);
  Tape tape;
  tape.watch(x);
  const Tensor y = permute(x, {2, 0, 3, 1});
  CHECK(doubles(tape.backward(y, {.upstream = dy})[x]) == permute_plainly(doubles(dy), dy.shape(), {1, 3, 0, 2}));
}

TEST_CASE("axes that are no permutation are refused") {
  const Tensor x = Tensor::ones({3, 4});
  CHECK_THROWS_WITH_AS(permute(x, {0, 0}), "permute: axes [0, 0] are no permutation of the 2 axes of [3, 4]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(permute(x, {1}), "permute: axes [1] are no permutation of the 2 axes of [3, 4]", ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 2}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, -2}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, INT64_MIN}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}), ShapeError);
  CHECK_THROWS_AS(permute(Tensor(), {}), ArgumentError);
}

// ---- concat ----

TEST_CASE("concat puts every element where index arithmetic does, along each axis, in every dtype") {
  for (const DType dtype : dtypes)
    for (const int64_t axis : {0, 1, 2, -1, -2, -3}) {
      std::vector<Tensor> parts;
      const int64_t joined = axis < 0 ? axis + 3 : axis;
      for (const int64_t extent : {2, 0, 5, 1}) {
        Axes extents = {3, 4, 2};
        extents[static_cast<size_t>(joined)] = extent;
        parts.push_back(counting(Shape(std::span<const int64_t>(extents)), dtype));
      }
      const Tensor y = concat(parts, axis);
      CHECK(y.dtype() == dtype);
      const Doubles values = doubles(y);
      int64_t offset = 0;
      for (const Tensor& part : parts) {
        const Doubles expected = doubles(part);
        for (int64_t i = 0; i < part.elements(); ++i) {
          Axes at = coordinates(i, part.shape());
          at[static_cast<size_t>(joined)] += offset;
          CHECK(values[static_cast<size_t>(index_of(at, y.shape()))] == expected[static_cast<size_t>(i)]);
        }
        offset += part.shape()[joined];
      }
      CHECK(y.shape()[joined] == offset);
    }
}

TEST_CASE("more than eight tensors are joined in order, and each gets its part of the gradient") {
  for (const size_t count : {1u, 8u, 9u, 64u, 65u, 130u}) {
    std::vector<Tensor> parts;
    Tape tape;
    Doubles expected;
    for (size_t i = 0; i < count; ++i) {
      parts.push_back(Tensor::full({static_cast<int64_t>(i % 3)}, static_cast<double>(i), DType::f64));
      expected.insert(expected.end(), i % 3, static_cast<double>(i));
      tape.watch(parts.back());
    }
    const Tensor y = concat(parts);
    CHECK(doubles(y) == expected);
    Doubles upstream(expected.size());
    std::iota(upstream.begin(), upstream.end(), 0);
    const Gradients gradients = tape.backward(y, {.upstream = Tensor::from(upstream, y.shape())});
    Doubles returned;
    for (const Tensor& part : parts)
      for (const double value : doubles(gradients[part])) returned.push_back(value);
    CHECK(returned == upstream);
  }
}

TEST_CASE("only the parts that want a gradient get one, and a tensor given twice the sum of two") {
  const Tensor a = Tensor::ones({2, 2}, DType::f64), b = Tensor::ones({2, 1}, DType::f64);
  Tape tape;
  tape.watch(b);
  const Tensor y = concat({b, a, b}, 1), dy = Tensor::from<double>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 4});
  const Gradients gradients = tape.backward(y, {.upstream = dy});
  CHECK(gradients.size() == 1);
  CHECK(doubles(gradients[b]) == Doubles{5, 13});
}

TEST_CASE("the result of one tensor has bytes of its own") {
  Tensor a = Tensor::ones({3});
  const Tensor y = concat({a});
  a.fill(2);
  CHECK(doubles(y) == Doubles{1, 1, 1});
}

TEST_CASE("one, two and three threads give the same bits") {
  const int before = threads();
  const Tensor a = normal_sample({300, 257}, DType::f32, 1), b = normal_sample({300, 100}, DType::f32, 2);
  const auto run = [&] { return doubles(permute(concat({a, b, a}, 1), {1, 0})); };
  set_threads(1);
  const Doubles one = run();
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(run() == one);
  }
  set_threads(before);
}

TEST_CASE("tensors that do not fit together are refused") {
  const Tensor a = Tensor::ones({3, 4});
  CHECK_THROWS_WITH_AS(concat({}), "concat: no tensors; there must be at least one", ArgumentError);
  CHECK_THROWS_WITH_AS(concat({a, Tensor()}), "concat: tensor 1 is an empty handle", ArgumentError);
  CHECK_THROWS_WITH_AS(concat({a, Tensor::ones({3, 5})}, 0),
                       "concat: shapes [3, 4] and [3, 5] differ in more than axis 0", ShapeError);
  CHECK_THROWS_AS(concat({a, Tensor::ones({3})}, 0), ShapeError);
  CHECK_THROWS_WITH_AS(concat({a, a}, 2), "concat: axis 2 is not in [-2, 2) of shape [3, 4]", ShapeError);
  CHECK_THROWS_AS(concat({a, a}, INT64_MIN), ShapeError);
  CHECK_THROWS_AS(concat({Tensor::ones({}), Tensor::ones({})}), ShapeError);
  CHECK_THROWS_WITH_AS(concat({a, Tensor::ones({3, 4}, DType::f64)}), "concat: f32 and f64; cast them to one dtype",
                       DTypeError);
  const Tensor huge = Tensor::empty({INT64_MAX / 16, 0});
  CHECK_THROWS_AS(concat(std::vector<Tensor>(64, huge)), ShapeError);
}
