// reshape, flatten, slice_rows, which share their input's bytes, and cast, which changes the dtype.
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/tape.h>
#include <xent/ops/ops.h>

using namespace xent;

namespace {

using Doubles = std::vector<double>;
using Floats = std::vector<float>;
using Longs = std::vector<int64_t>;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr DType dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64};

Tensor line(const Doubles& values) { return Tensor::from(values, {static_cast<int64_t>(values.size())}); }

// The gradient of u . y for x.
Doubles gradient(Tape& tape, const Tensor& y, const Tensor& u, const Tensor& x) {
  return tape.backward(y, {.upstream = u})[x].to_vector<double>();
}

// 0, 1, 2, ... in a shape.
Tensor count_up(const Shape& shape) {
  Doubles values;
  for (int64_t i = 0; i < shape.elements(); ++i) values.push_back(static_cast<double>(i));
  return Tensor::from(values, shape);
}

}  // namespace

// ---- reshape and flatten ----

TEST_CASE("reshape is another shape of the same bytes") {
  Tensor x = count_up({2, 6});
  const Tensor y = reshape(x, {3, 4});
  CHECK(y.shape() == Shape{3, 4});
  CHECK(y.raw() == x.raw());
  x.mutable_data<double>()[5] = -1;
  CHECK(y.to_vector<double>()[5] == -1);
}

TEST_CASE("reshape goes to and from scalars and empty tensors, for every dtype") {
  for (const DType dtype : dtypes) {
    CHECK(Tensor::ones({1, 1}, dtype).reshape({}).shape() == Shape{});
    CHECK(Tensor::ones({}, dtype).reshape({1}).dtype() == dtype);
    CHECK(Tensor::ones({0, 3}, dtype).reshape({5, 0}).shape() == Shape{5, 0});
  }
}

TEST_CASE("the gradient of a reshape has the input's shape and the upstream's values") {
  const Tensor x = count_up({2, 3}), u = count_up({6});
  Tape tape;
  tape.watch(x);
  const Gradients gradients = tape.backward(reshape(scale(x, 2), {6}), {.upstream = u});
  CHECK(gradients[x].shape() == Shape{2, 3});
  CHECK(gradients[x].to_vector<double>() == Doubles{0, 2, 4, 6, 8, 10});
}

TEST_CASE("two reshapes of one tensor add their gradients") {
  const Tensor x = count_up({2, 2});
  Tape tape;
  tape.watch(x);
  const Tensor y = add(x.reshape({4}), scale(x.reshape({4}), 10));
  CHECK(gradient(tape, y, line({1, 2, 3, 4}), x) == Doubles{11, 22, 33, 44});
}

TEST_CASE("reshape to another number of elements names both shapes") {
  CHECK_THROWS_WITH_AS(Tensor::zeros({2, 3}).reshape({4}), "reshape: [2, 3] has 6 elements, [4] has 4", ShapeError);
  CHECK_THROWS_WITH_AS(reshape(Tensor(), {}), "reshape: input 0 is an empty tensor handle", ArgumentError);
}

TEST_CASE("flatten merges the axes from one on") {
  const Tensor x = count_up({2, 3, 4, 5});
  CHECK(flatten(x).shape() == Shape{2, 60});
  CHECK(flatten(x, 0).shape() == Shape{120});
  CHECK(flatten(x, -2).shape() == Shape{2, 3, 20});
  CHECK(flatten(x, 3).shape() == x.shape());
  CHECK(flatten(Tensor::zeros({0, 3, 4})).shape() == Shape{0, 12});
  CHECK(flatten(x).to_vector<double>() == x.to_vector<double>());
  CHECK_THROWS_WITH_AS(flatten(Tensor::zeros({5})), "flatten: axis 1 is not in [-1, 1) of shape [5]", ShapeError);
  CHECK_THROWS_WITH_AS(flatten(Tensor()), "flatten: the input is an empty tensor handle", ArgumentError);
}

// ---- slice_rows ----

TEST_CASE("slice_rows is a part of the same bytes") {
  Tensor x = count_up({4, 3});
  const Tensor y = slice_rows(x, 1, 3);
  CHECK(y.shape() == Shape{2, 3});
  CHECK(y.to_vector<double>() == Doubles{3, 4, 5, 6, 7, 8});
  x.mutable_data<double>()[3] = -1;
  CHECK(y.to_vector<double>()[0] == -1);
}

TEST_CASE("slices of slices count from their own first row") {
  const Tensor x = count_up({10, 2});
  CHECK(x.slice(2, 9).slice(3, 5).to_vector<double>() == Doubles{10, 11, 12, 13});
  CHECK(x.slice(5, 10).reshape({2, 5}).slice(1, 2).to_vector<double>() == Doubles{15, 16, 17, 18, 19});
}

TEST_CASE("slice_rows works for every dtype") {
  for (const DType dtype : dtypes)
    CHECK(cast(cast(count_up({4, 2}), dtype).slice(1, 3), DType::f64).to_vector<double>() == Doubles{2, 3, 4, 5});
}

TEST_CASE("a slice of no rows is empty") {
  const Tensor x = count_up({4, 3});
  CHECK(x.slice(2, 2).shape() == Shape{0, 3});
  CHECK(x.slice(4, 4).to_vector<double>().empty());
  CHECK(Tensor::zeros({0, 3}).slice(0, 0).shape() == Shape{0, 3});
}

TEST_CASE("the gradient of a slice is zero outside of it") {
  const Tensor x = count_up({4, 2});
  Tape tape;
  tape.watch(x);
  const Tensor u = Tensor::from<double>({1, 2, 3, 4}, {2, 2});
  CHECK(gradient(tape, slice_rows(x, 1, 3), u, x) == Doubles{0, 0, 1, 2, 3, 4, 0, 0});
}

TEST_CASE("the gradient of an empty slice is zero everywhere") {
  const Tensor x = count_up({4});
  Tape tape;
  tape.watch(x);
  CHECK(gradient(tape, x.slice(2, 2), line({}), x) == Doubles{0, 0, 0, 0});
}

TEST_CASE("overlapping slices of one tensor add their gradients") {
  const Tensor x = count_up({5});
  Tape tape;
  tape.watch(x);
  const Tensor y = add(x.slice(0, 3), scale(x.slice(1, 4), 10));
  CHECK(gradient(tape, y, line({1, 1, 1}), x) == Doubles{1, 11, 11, 10, 0});
}

TEST_CASE("a large slice has the same gradient for one, two and three threads") {
  const int before = threads();
  const Tensor x = Tensor::zeros({1000, 301}), u = Tensor::full({700, 301}, 0.5);
  Floats expected(301000);
  for (size_t i = 123 * 301; i < 823 * 301; ++i) expected[i] = 0.5;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    Tape tape;
    tape.watch(x);
    CHECK(tape.backward(x.slice(123, 823), {.upstream = u})[x].to_vector<float>() == expected);
  }
  set_threads(before);
}

TEST_CASE("rows that are not there are named") {
  const Tensor x = Tensor::zeros({5, 3});
  CHECK_THROWS_WITH_AS(x.slice(2, 9), "slice_rows: rows [2, 9) are not in [0, 5) of shape [5, 3]", ShapeError);
  CHECK_THROWS_AS(x.slice(-1, 2), ShapeError);
  CHECK_THROWS_AS(x.slice(3, 2), ShapeError);
  CHECK_THROWS_WITH_AS(Tensor::scalar(1).slice(0, 1), "slice_rows: a scalar has no rows", ShapeError);
  CHECK_THROWS_WITH_AS(Tensor().slice(0, 1), "slice_rows: input 0 is an empty tensor handle", ArgumentError);
}

// ---- cast ----

TEST_CASE("small integers survive a cast between any two dtypes") {
  const Tensor x = line({0, 1, 2, 100});
  for (const DType from : dtypes)
    for (const DType to : dtypes) {
      const Tensor y = cast(cast(x, from), to);
      CHECK(y.dtype() == to);
      CHECK(y.shape() == x.shape());
      CHECK(cast(y, DType::f64).to_vector<double>() == Doubles{0, 1, 2, 100});
    }
}

TEST_CASE("a cast to an integer cuts fractions off, makes NaN 0 and stays in range") {
  const Tensor x = line({2.9, -2.9, not_a_number, infinity, -infinity, 1e10, -1e10, 300});
  CHECK(cast(x, DType::i32).to_vector<int32_t>() ==
        std::vector<int32_t>{2, -2, 0, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN, 300});
  CHECK(cast(x, DType::u8).to_vector<uint8_t>() == std::vector<uint8_t>{2, 0, 0, 255, 0, 255, 0, 255});
  CHECK(cast(x, DType::i64).to_vector<int64_t>() ==
        Longs{2, -2, 0, INT64_MAX, INT64_MIN, 10000000000, -10000000000, 300});
}

TEST_CASE("a cast to fewer bits rounds once, to nearest, ties to even") {
  CHECK(cast(line({1 + 0x1p-24}), DType::f32).item() == 1);
  CHECK(cast(line({1 + 3 * 0x1p-24}), DType::f32).item() == 1 + 0x1p-22);
  CHECK(cast(line({1 + 0x1p-11}), DType::f16).item() == 1);
  CHECK(cast(line({1 + 0x1p-11 + 0x1p-40}), DType::f16).item() == 1 + 0x1p-10);  // in f32 it is a tie
  CHECK(cast(line({1 + 0x1p-8 + 0x1p-40}), DType::bf16).item() == 1 + 0x1p-7);
  CHECK(cast(line({1e39}), DType::f32).item() == infinity);
  CHECK(cast(line({65520}), DType::f16).item() == infinity);
}

TEST_CASE("a cast to a float keeps -0, infinities and NaN") {
  for (const DType to : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
    const Doubles y = cast(cast(line({-0.0, -infinity, not_a_number}), to), DType::f64).to_vector<double>();
    CHECK((y[0] == 0 && std::signbit(y[0])));
    CHECK(y[1] == -infinity);
    CHECK(std::isnan(y[2]));
  }
}

TEST_CASE("the gradient of a cast is cast back, between all floating dtypes") {
  for (const DType from : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const DType to : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      const Tensor x = Tensor::zeros({3}, from);
      Tape tape;
      tape.watch(x);
      const Gradients gradients = tape.backward(cast(x, to), {.upstream = cast(line({1, -2, 0.5}), to)});
      CHECK(gradients[x].dtype() == from);
      CHECK(cast(gradients[x], DType::f64).to_vector<double>() == Doubles{1, -2, 0.5});
    }
}

TEST_CASE("a slice of 16-bit floats has a gradient") {
  const Tensor x = Tensor::zeros({4}, DType::f16);
  Tape tape;
  tape.watch(x);
  const Tensor y = cast(x.slice(1, 3), DType::f32);
  const Tensor dx = tape.backward(y, {.upstream = Tensor::from({2, 3}, {2})})[x];
  CHECK(cast(dx, DType::f32).to_vector<float>() == Floats{0, 2, 3, 0});
}

TEST_CASE("a cast to integers is not recorded") {
  const Tensor x = line({1, 2});
  Tape tape;
  tape.watch(x);
  const Tensor y = cast(cast(x, DType::i64), DType::f64);
  CHECK(tape.size() == 0);
}

TEST_CASE("a cast of no elements, and of an empty handle") {
  CHECK(cast(Tensor::zeros({0, 3}), DType::u8).shape() == Shape{0, 3});
  CHECK_THROWS_WITH_AS(cast(Tensor(), DType::f32), "cast: input 0 is an empty tensor handle", ArgumentError);
}

TEST_CASE("two gradients arrive at one tensor of 16 bits, by a cast or by a slice") {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const Tensor x = Tensor::ones({3, 1}, dtype);
    Tape tape;
    tape.watch(x);
    const Tensor y = cast(slice_rows(x, 0, 2), DType::f32) + cast(slice_rows(x, 1, 3), DType::f32);
    const Gradients gradients = tape.backward(sum(y) + sum(cast(x, DType::f32)));
    CHECK(cast(gradients[x], DType::f32).to_vector<float>() == std::vector<float>{2, 3, 2});
  }
}
