// sum, mean and argmax on CUDA: exact on small whole numbers over any axes, as the gradients; rounded once where they
// are not exact; the first of equals and the first NaN where argmax has a choice.
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/reduce.h>
#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

Function over(const Op& op, Mask axes, bool keep) {
  return [&op, axes, keep](const TensorList& l) { return apply(op, {l[0]}, ReduceAttrs{axes, keep})[0]; };
}

void check_sums(const Shape& shape, Mask axes, Effort effort = Effort::all_orders) {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const bool keep : {false, true}) {
      CAPTURE(shape.str());
      CAPTURE(axes);
      check_exact(over(sum_op, axes, keep), {integers(shape, dtype, 3)}, effort);
    }
}

}  // namespace

TEST_CASE("sums over every choice of axes are exact on whole numbers, their gradients too") {
  for (const Shape& shape : {Shape{}, Shape{7}, Shape{3, 5}, Shape{33, 65}, Shape{2, 3, 4, 5}, Shape{2, 1, 3, 1, 2}})
    for (Mask axes = 0; axes < Mask{1} << shape.rank(); ++axes) {
      if (looks_for_races && shape.elements() > 200) continue;
      check_sums(shape, axes);
    }
}

TEST_CASE("sums of rows of all lengths, shared by one lane to a block, and of columns") {
  for (const int64_t length : {1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 257, 1025}) {
    if (looks_for_races && length > 65) continue;
    check_sums({3, length}, 0b10);
    check_sums({length, 3}, 0b01);
    check_sums({9, length, 2}, 0b010);
  }
}

TEST_CASE("sums that a block has, and that are cut into chunks" * doctest::skip(looks_for_races)) {
  for (const int64_t length : {2048, 2049, 4097, 8191, 8192, 9001, 40001}) {
    check_sums({2, length}, 0b10, Effort::once);
    check_sums({length}, 0b1, Effort::once);
    check_sums({length, 3}, 0b01, Effort::once);
  }
  check_sums({3, 50, 3, 60}, 0b1010, Effort::once);
  check_sums({70, 3, 60}, 0b101, Effort::once);
  check_sums({3, 200, 5, 60}, 0b1010, Effort::once);
}

TEST_CASE("means, and sums that are not exact, are rounded once from f64, in every order the same bits") {
  const std::vector<std::pair<Shape, Mask>> sums = {
      {Shape{65, 33}, 0b01}, {Shape{65, 33}, 0b10}, {Shape{5, 9001}, 0b10}, {Shape{2100, 5}, 0b01}, {Shape{300}, 0b1}};
  for (const auto& [shape, axes] : sums)
    for (const Op* op : {&sum_op, &mean_op}) {
      if (looks_for_races && shape.elements() > 3000) continue;
      CAPTURE(shape.str());
      const Tensor x = normal_sample(shape, DType::f32, 4), dy_like = over(*op, axes, false)({x});
      const Tensor dy = normal_sample(dy_like.shape(), DType::f32, 5);
      const TensorList want = run(over(*op, axes, false), {cast(x, DType::f64)}, cast(dy, DType::f64));
      const TensorList device = there(TensorList{x});
      const Tensor upstream = there(dy);
      const TensorList got = in_every_order([&] { return run(over(*op, axes, false), device, upstream); });
      for (size_t k = 0; k < 2; ++k) {
        const std::vector<double> a = doubles(want[k]), b = doubles(got[k]);
        for (size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= 0x1.01p-23 * std::abs(a[i]) + 1e-12);
      }
    }
}

TEST_CASE("sums of nothing are 0, means of nothing NaN, and nothing is summed to nothing") {
  for (const auto& [shape, axes] : std::vector<std::pair<Shape, Mask>>{
           {Shape{0}, 1}, {Shape{0, 3}, 0b01}, {Shape{3, 0}, 0b10}, {Shape{0, 3}, 0b10}, {Shape{2, 0, 3}, 0b010}})
    check_sums(shape, axes);
  const Tensor none = there(Tensor::zeros({0, 3}));
  for (const double value : doubles(mean(none, {0}))) CHECK(std::isnan(value));
  CHECK(mean(none, {1}).shape() == Shape{0});
}

TEST_CASE("argmax is the CPU's for rows and columns of all lengths, with ties, NaNs and infinities") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t length : {1, 2, 3, 5, 8, 10, 17, 31, 32, 33, 65, 100, 257, 1025, 3000}) {
      if (looks_for_races && length > 100) continue;
      for (const int axis : {0, 1, 2}) {
        Shape shape = axis == 0 ? Shape{length, 5, 1} : axis == 1 ? Shape{4, length, 3} : Shape{2, 3, length};
        std::vector<float> values = cast(integers(shape, DType::f32, 9), DType::f32).to_vector<float>();
        const Tensor x = cast(Tensor::from(values, shape), dtype);
        for (size_t i = 0; i < values.size(); i += 7) values[i] = i % 3 == 0 ? nan : i % 3 == 1 ? infinity : -infinity;
        const Tensor special = cast(Tensor::from(values, shape), dtype);
        CAPTURE(length);
        CAPTURE(axis);
        for (const Tensor& of : {x, special, normal_sample(shape, dtype, 11)})
          for (const bool aligned : {true, false}) {
            const Tensor device = there(of, aligned);
            const auto got = in_every_order([&] { return argmax(device, axis); });
            CHECK(got[0].to_vector<int64_t>() == argmax(of, axis).to_vector<int64_t>());
          }
      }
    }
  CHECK(argmax(there(Tensor::zeros({0, 3})), 1).elements() == 0);
}
