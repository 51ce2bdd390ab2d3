// permute, concat and the gradient of slice_rows on CUDA: bytes in other places, for every dtype, size and alignment.
#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

constexpr DType all_dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64};

// Numbers that tell elements apart, up to 251 of them.
Tensor counted(const Shape& shape, DType dtype) {
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 251);
  return cast(Tensor::from(values, shape), dtype);
}

// Forward on all dtypes, bytes as on the CPU.
void check_bytes(const Function& function, const std::vector<Shape>& shapes, Effort effort = Effort::all_orders) {
  for (const DType dtype : all_dtypes)
    for (const bool aligned : {true, false}) {
      TensorList x;
      for (const Shape& shape : shapes) x.push_back(counted(shape, dtype));
      const TensorList device = there(x, aligned);
      CAPTURE(name(dtype));
      CAPTURE(shapes[0].str());
      const Tensor want = function(x);
      if (effort == Effort::once) CHECK(same_bits(function(device).to(Device::cpu()), want));
      else CHECK(same_bits(in_every_order([&] { return function(device); })[0], want));
    }
}

Function permuted(std::vector<int64_t> axes) {
  return [axes = std::move(axes)](const TensorList& l) { return permute(l[0], axes); };
}

}  // namespace

TEST_CASE("permute by every permutation of four axes") {
  std::array<int64_t, 4> axes = {0, 1, 2, 3};
  do {
    const Function function = permuted({axes.begin(), axes.end()});
    check_exact(function, {integers({2, 3, 4, 5}, DType::f32, 1)});
    check_bytes(function, {{3, 2, 1, 4}}, Effort::once);
    if (!looks_for_races) check_bytes(function, {{9, 10, 2, 11}}, Effort::once);
  } while (std::ranges::next_permutation(axes).found);
}

TEST_CASE("transposes of all sizes: tiles, parts of tiles, and sides that are too short for one") {
  for (const int64_t rows : {1, 2, 7, 8, 9, 31, 32, 33, 65})
    for (const int64_t columns : {1, 3, 8, 31, 32, 33, 64, 100}) {
      if (looks_for_races && rows * columns > 300) continue;
      check_bytes(permuted({1, 0}), {{rows, columns}}, Effort::once);
      check_bytes(permuted({0, 2, 1}), {{3, rows, columns}}, Effort::once);
      check_bytes(permuted({2, 1, 0}), {{rows, 2, columns}}, Effort::once);
    }
  const std::vector<Shape> several = {{3, 40, 50}};
  check_bytes(permuted({0, 2, 1}), several);
  check_exact(permuted({2, 0, 1}), {integers({3, 33, 35}, DType::f64, 1)});
}

TEST_CASE("more tiles than blocks: a block has several, one after the other" * doctest::skip(looks_for_races)) {
  const Tensor x = counted({3, 27 * 32, 26 * 32}, DType::u8);
  CHECK(same_bits(permute(x.to(Device::cuda()), {0, 2, 1}).to(Device::cpu()), permute(x, {0, 2, 1})));
}

TEST_CASE("rows that stay rows are moved in the largest words that fit") {
  for (const int64_t width : {1, 2, 3, 4, 6, 8, 12, 16, 17, 32})
    check_bytes(permuted({1, 0, 2}), {{5, 3, width}}, Effort::once);
  check_bytes(permuted({}), {{}}, Effort::once);
  check_bytes(permuted({1, 0}), {{0, 3}}, Effort::once);
}

TEST_CASE("concat along every axis, of one to eight tensors, some of them empty; and its gradients") {
  const auto along = [](int64_t axis) { return [axis](const TensorList& l) { return concat(l, axis); }; };
  for (const auto& shapes : std::vector<std::vector<Shape>>{{{7}},
                                                            {{3}, {0}, {5}},
                                                            {{0}, {0}},
                                                            {{3, 5}, {3, 5}},
                                                            {{2, 4, 8}, {2, 4, 8}, {2, 4, 8}},
                                                            {{1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, {10}}})
    for (int64_t axis = 0; axis < shapes[0].rank(); ++axis) check_bytes(along(axis), shapes);
  check_bytes(along(1), {{3, 5, 2}, {3, 1, 2}, {3, 4, 2}});
  check_bytes(along(0), {{300, 7}, {41, 7}}, Effort::once);
  check_exact(along(0), {integers({3, 4}, DType::f32, 1), integers({2, 4}, DType::f32, 2)});
  check_exact(along(1),
              {integers({33, 4}, DType::f64, 1), integers({33, 3}, DType::f64, 2), integers({33, 0}, DType::f64, 2)});
}

TEST_CASE("the gradient of a slice is zero outside it, whichever rows it has, and adds to what is there") {
  for (const Shape& shape : {Shape{7, 3}, Shape{5}, Shape{300, 5}, Shape{2, 2, 2}}) {
    const int64_t rows = shape[0];
    for (const int64_t begin : {int64_t{0}, rows / 2, rows - 1, rows})
      for (const int64_t end : {begin, begin + 1, rows}) {
        if (end > rows) continue;
        CAPTURE(begin);
        CAPTURE(end);
        for (const DType dtype : {DType::f32, DType::f64})
          check_exact([=](const TensorList& l) { return slice_rows(l[0], begin, end); }, {integers(shape, dtype, 1)});
      }
  }
}

TEST_CASE("the gradient of a slice in 16 bits") {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const auto grads = [&](Device device) {
      const Tensor x = counted({5, 3}, dtype).to(device), dy = counted({2, 3}, dtype).to(device);
      Tape tape;
      tape.watch(x);
      const Tensor y = slice_rows(x, 1, 3);
      Gradients gradients = Gradients::zeros(TensorList{x});
      tape.backward(y, gradients, {.upstream = dy, .retain = true});
      tape.backward(y, gradients, {.upstream = dy});
      return gradients[x];
    };
    CHECK(same_bits(in_every_order([&] { return grads(Device::cuda()); })[0], grads(Device::cpu())));
  }
}
