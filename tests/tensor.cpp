// Tensors: making, reading, writing and viewing them, and what is refused.
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/op.h>
#include <xent/core/tensor.h>

#include "small_ops.h"

using namespace xent;

namespace {

constexpr DType dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64};

using Floats = std::vector<float>;

}  // namespace

// ---- make ----

TEST_CASE("from copies host values in row-major order") {
  const std::vector<double> values = {1, 2, 3, 4, 5, 6};
  const Tensor x = Tensor::from(values, {2, 3});
  CHECK(x.shape() == Shape{2, 3});
  CHECK(x.dtype() == DType::f64);
  CHECK(x.device() == Device::cpu());
  CHECK(x.rank() == 2);
  CHECK(x.elements() == 6);
  CHECK(x.bytes() == 48);
  CHECK(x.to_vector<double>() == values);
}

TEST_CASE("from takes lists, vectors and spans of every element type") {
  CHECK(Tensor::from({1, 2.5}, {2}).to_vector<float>() == Floats{1, 2.5});
  CHECK(Tensor::from<int64_t>({7, -2}, {2}).to_vector<int64_t>() == std::vector<int64_t>{7, -2});
  CHECK(Tensor::from<uint8_t>({255}, {1}).to_vector<uint8_t>() == std::vector<uint8_t>{255});
  CHECK(Tensor::from<Float16>({Float16(0.5f)}, {1}).to_vector<Float16>()[0].bits == 0x3800);
  const int32_t numbers[] = {1, 2, 3, 4};
  CHECK(Tensor::from<int32_t>(std::span(numbers), {2, 2}).to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3, 4});
}

TEST_CASE("from refuses a number of values that the shape does not have") {
  CHECK_THROWS_WITH_AS(Tensor::from({1, 2, 3}, {2, 2}), "Tensor::from: 3 values for shape [2, 2], which has 4 elements",
                       ShapeError);
  CHECK_THROWS_AS(Tensor::from({1}, {0}), ShapeError);
  CHECK_THROWS_AS(Tensor::from(Floats{}, {}), ShapeError);  // a scalar has one element
}

TEST_CASE("a tensor may have no elements") {
  const Tensor x = Tensor::from(Floats{}, {0, 3});
  CHECK(x);
  CHECK(x.elements() == 0);
  CHECK(x.bytes() == 0);
  CHECK(x.to_vector<float>().empty());
  CHECK(x.clone().shape() == Shape{0, 3});
  Tensor y = Tensor::full({3, 0}, 7, DType::i64);
  y.fill(1);
  y.copy_from(Tensor::zeros({3, 0}, DType::i64));
  CHECK(y.to_vector<int64_t>().empty());
}

TEST_CASE("full, zeros, ones and scalar hold one value in every dtype") {
  for (const DType dtype : dtypes) {
    CAPTURE(name(dtype));
    CHECK(Tensor::full({}, 3, dtype).item() == 3);
    CHECK(Tensor::zeros({1}, dtype).item() == 0);
    CHECK(Tensor::ones({1, 1}, dtype).item() == 1);
    CHECK(Tensor::scalar(2, dtype).shape() == Shape{});
    CHECK(Tensor::scalar(2, dtype).dtype() == dtype);
  }
  CHECK(Tensor::full({2, 2}, -0.5).to_vector<float>() == Floats{-0.5, -0.5, -0.5, -0.5});
}

TEST_CASE("full converts as a cast does: to an integer it saturates") {
  CHECK(Tensor::scalar(300, DType::u8).item() == 255);
  CHECK(Tensor::scalar(-1, DType::u8).item() == 0);
  CHECK(Tensor::scalar(NAN, DType::i32).item() == 0);
  CHECK(Tensor::scalar(1e30, DType::i64).item<int64_t>() == std::numeric_limits<int64_t>::max());
  CHECK(Tensor::scalar(1e6, DType::f16).item() == INFINITY);
}

TEST_CASE("a large tensor is filled and copied to its end") {
  constexpr int64_t n = 300'001;  // several chunks, the last one short
  const Tensor copy = Tensor::full({n}, 0.25).clone();
  CHECK(copy.to_vector<float>() == Floats(n, 0.25f));
}

TEST_CASE("every tensor has an id of its own, which its copies share") {
  const Tensor a = Tensor::zeros({2}), b = Tensor::zeros({2}), copy = a;
  CHECK(a.id() != b.id());
  CHECK(a.id() == copy.id());
  CHECK(a.storage() == copy.storage());
}

// ---- read ----

TEST_CASE("reading as another dtype is refused") {
  Tensor x = Tensor::zeros({2});
  CHECK_THROWS_WITH_AS(x.to_vector<double>(), "to_vector: the tensor is f32, not f64; cast it first", DTypeError);
  CHECK_THROWS_WITH_AS(x.data<int32_t>(), "data: the tensor is f32, not i32", DTypeError);
  CHECK_THROWS_AS(x.mutable_data<Float16>(), DTypeError);
}

TEST_CASE("item returns the only element, converted") {
  CHECK(Tensor::scalar(2.5).item() == 2.5);
  CHECK(Tensor::full({1, 1}, 2.5, DType::f64).item<float>() == 2.5f);
  CHECK(Tensor::from<BFloat16>({BFloat16(3)}, {1}).item<int>() == 3);
  const int64_t odd = (int64_t{1} << 60) + 1;  // not a double
  CHECK(Tensor::from<int64_t>({odd}, {}).item<int64_t>() == odd);
}

TEST_CASE("item saturates where the value does not fit") {
  CHECK(Tensor::scalar(1e30).item<int>() == std::numeric_limits<int>::max());
  CHECK(Tensor::scalar(-INFINITY).item<int64_t>() == std::numeric_limits<int64_t>::min());
  CHECK(Tensor::scalar(NAN).item<int>() == 0);
  CHECK(Tensor::from<int64_t>({-5}, {}).item<uint8_t>() == 0);
  CHECK(Tensor::scalar(0.5).item<bool>());
}

TEST_CASE("item refuses any other number of elements") {
  CHECK_THROWS_WITH_AS(Tensor::zeros({2, 3}).item(), "item: the tensor has shape [2, 3], not one element", ShapeError);
  CHECK_THROWS_AS(Tensor::zeros({0}).item(), ShapeError);
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::i64).item(), ShapeError);
}

TEST_CASE("data points at the elements") {
  Tensor x = Tensor::from({1, 2, 3}, {3});
  CHECK(x.data<float>()[1] == 2);
  x.mutable_data<float>()[1] = 5;
  CHECK(x.to_vector<float>() == Floats{1, 5, 3});
}

// ---- copies and views ----

TEST_CASE("clone has bytes of its own") {
  const Tensor x = Tensor::from({1, 2}, {2});
  Tensor y = x.clone();
  y.fill(9);
  CHECK(x.to_vector<float>() == Floats{1, 2});
  CHECK(y.shape() == x.shape());
  CHECK(y.id() != x.id());
}

TEST_CASE("clone works for every dtype") {
  for (const DType dtype : dtypes) {
    CAPTURE(name(dtype));
    CHECK(Tensor::full({}, 3, dtype).clone().item() == 3);
  }
}

TEST_CASE("detach shares the bytes under a new id, and is no parameter") {
  Tensor x = Tensor::from({1, 2}, {2});
  x.set_requires_grad();
  const Tensor y = x.detach();
  x.fill(9);
  CHECK(y.to_vector<float>() == Floats{9, 9});
  CHECK(y.id() != x.id());
  CHECK_FALSE(y.requires_grad());
}

TEST_CASE("a view is a part of another tensor's bytes") {
  Tensor x = Tensor::from({0, 1, 2, 3, 4, 5}, {3, 2});
  Tensor row = x.view({2}, 4);
  CHECK(row.to_vector<float>() == Floats{4, 5});
  row.fill(7);
  CHECK(x.to_vector<float>() == Floats{0, 1, 2, 3, 7, 7});
  CHECK(row.view({}, 1).item() == 7);  // offsets add up
  CHECK(x.view({0}, 6).elements() == 0);
}

TEST_CASE("a view must lie within its tensor") {
  const Tensor x = Tensor::zeros({3, 2});
  CHECK_THROWS_WITH_AS(x.view({2}, 5), "view: shape [2] from element 5 on is not within shape [3, 2]", ShapeError);
  CHECK_THROWS_AS(x.view({2}, -1), ShapeError);
  CHECK_THROWS_AS(x.view({7}, 0), ShapeError);
  CHECK_THROWS_AS(x.view({}, 6), ShapeError);
  CHECK_THROWS_AS(x.view({1}, std::numeric_limits<int64_t>::max()), ShapeError);
  CHECK_THROWS_AS(x.view({1}, std::numeric_limits<int64_t>::min()), ShapeError);
  CHECK_THROWS_AS(x.view({2}, 0).view({3}, 0), ShapeError);  // the bytes are there, but they are not the view's
}

TEST_CASE("a view keeps the bytes alive") {
  Tensor row;
  {
    const Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});
    row = x.view({2}, 2);
  }
  const Tensor other = Tensor::full({2, 2}, 9);
  CHECK(row.to_vector<float>() == Floats{3, 4});
}

TEST_CASE("to the device a tensor is on already returns the tensor") {
  const Tensor x = Tensor::zeros({2});
  CHECK(x.to(Device::cpu()).id() == x.id());
}

// ---- write in place ----

TEST_CASE("copy_from copies the elements") {
  Tensor x = Tensor::zeros({2, 2});
  x.copy_from(Tensor::from({1, 2, 3, 4}, {2, 2}));
  CHECK(x.to_vector<float>() == Floats{1, 2, 3, 4});
}

TEST_CASE("copy_from refuses another shape or dtype") {
  Tensor x = Tensor::zeros({2, 2});
  CHECK_THROWS_WITH_AS(x.copy_from(Tensor::zeros({4})), "copy_from: shape [4] into [2, 2]", ShapeError);
  CHECK_THROWS_WITH_AS(x.copy_from(Tensor::zeros({2, 2}, DType::f64)), "copy_from: f64 into f32; cast first",
                       DTypeError);
}

TEST_CASE("copy_from copes with overlapping views and with the tensor itself") {
  Tensor x = Tensor::from({1, 2, 3, 4, 5}, {5});
  x.view({4}, 1).copy_from(x.view({4}, 0));
  CHECK(x.to_vector<float>() == Floats{1, 1, 2, 3, 4});
  x.view({4}, 0).copy_from(x.view({4}, 1));
  CHECK(x.to_vector<float>() == Floats{1, 2, 3, 4, 4});
  x.copy_from(x);
  CHECK(x.to_vector<float>() == Floats{1, 2, 3, 4, 4});
}

TEST_CASE("every write in place bumps the version, also through a view; reading does not") {
  Tensor x = Tensor::zeros({2});
  const auto version = [&] { return x.storage()->version(); };
  const auto bumped_by = [&](const auto& action) {
    const uint64_t before = version();
    action();
    return version() != before;
  };
  CHECK(bumped_by([&] { x.fill(1); }));
  CHECK(bumped_by([&] { x.copy_from(Tensor::ones({2})); }));
  CHECK(bumped_by([&] { x.mutable_data<float>(); }));
  CHECK(bumped_by([&] { x.view({1}, 1).fill(2); }));
  CHECK_FALSE(bumped_by([&] { x.to_vector<float>(); }));
  CHECK_FALSE(bumped_by([&] { x.data<float>(); }));
  CHECK_FALSE(bumped_by([&] { x.clone().fill(3); }));
}

TEST_CASE("integers cannot be parameters") {
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::i64).set_requires_grad(), DTypeError);
  Tensor x = Tensor::zeros({2}, DType::f16);
  CHECK(x.set_requires_grad().requires_grad());
  CHECK_FALSE(x.set_requires_grad(false).requires_grad());
}

// ---- empty handles ----

TEST_CASE("an empty handle is false and describes itself") {
  const Tensor empty;
  CHECK_FALSE(empty);
  CHECK(empty.id() == 0);
  CHECK(empty.str() == "empty tensor");
}

TEST_CASE("an empty handle cannot be read, written or copied") {
  Tensor empty;
  CHECK_THROWS_AS(empty.to_vector<float>(), ArgumentError);
  CHECK_THROWS_AS(empty.item(), ArgumentError);
  CHECK_THROWS_AS(empty.data<float>(), ArgumentError);
  CHECK_THROWS_AS(empty.mutable_data<float>(), ArgumentError);
  CHECK_THROWS_AS(empty.raw(), ArgumentError);
  CHECK_THROWS_AS(empty.fill(1), ArgumentError);
  CHECK_THROWS_AS(empty.clone(), ArgumentError);
  CHECK_THROWS_AS(empty.copy_from(Tensor::scalar(1)), ArgumentError);
  CHECK_THROWS_AS(empty.copy_from(empty), ArgumentError);
  Tensor scalar = Tensor::scalar(1);
  CHECK_THROWS_AS(scalar.copy_from(empty), ArgumentError);
}

TEST_CASE("an op refuses an empty handle unless the input is optional") {
  CHECK_THROWS_WITH_AS(small::square(Tensor()), "square: input 0 is an empty tensor handle", ArgumentError);
  CHECK_THROWS_WITH_AS(small::add(Tensor::zeros({1}), Tensor()), "add: input 1 is an empty tensor handle",
                       ArgumentError);
}

TEST_CASE("the shape rule of elementwise ops refuses what ops do not compute in") {
  for (const DType dtype : {DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64}) {
    const Spec spec = {.shape = {2}, .dtype = dtype};
    CHECK_THROWS_AS(same_as_input({&spec, 1}, {}), DTypeError);
  }
}

TEST_CASE("attributes give back the type they were made of, and no other") {
  struct Factor {
    double value;
    bool operator==(const Factor&) const = default;
  };
  struct Count {
    int64_t value;
    bool operator==(const Count&) const = default;
  };
  const Attrs attrs = Factor{0.5};
  CHECK(attrs.as<Factor>().value == 0.5);
  CHECK_THROWS_AS(attrs.as<Count>(), ArgumentError);
  CHECK_THROWS_AS(Attrs().as<Factor>(), ArgumentError);
  CHECK(attrs == Attrs(Factor{0.5}));
  CHECK_FALSE(attrs == Attrs(Factor{0.25}));
  CHECK_FALSE(attrs == Attrs(Count{0}));
  CHECK_FALSE(attrs == Attrs());
  CHECK(Attrs() == Attrs());
}

// ---- the op machinery, as far as it needs no tape ----

TEST_CASE("an op takes at most eight inputs") {
  const std::vector<Tensor> inputs(9, Tensor::zeros({1}));
  static constexpr Op op = {
      .name = "many",
      .formula = "",
      .infer = [](std::span<const Spec> in, const Attrs&) { return Specs{in[0]}; },
  };
  CHECK_THROWS_AS(xent::apply(op, inputs), ArgumentError);
}

TEST_CASE("an op without a kernel for the device says so") {
  static constexpr Op op = {
      .name = "nothing",
      .formula = "",
      .infer = [](std::span<const Spec> in, const Attrs&) { return Specs{in[0]}; },
  };
  CHECK_THROWS_WITH_AS(apply(op, {Tensor::zeros({1})}),
                       "nothing: the op's .forward has no CPU kernel; give it one: docs/adding_an_op.md", DeviceError);
}
