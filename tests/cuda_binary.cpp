// add, sub, mul and div on CUDA: exact on small whole numbers for every way that operands are stretched, as are their
// gradients, whose sums are cut into chunks where they are long.
#include <array>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

using Pair = std::array<Shape, 2>;

const std::vector<std::pair<const char*, Function>> functions = {
    {"add", [](const TensorList& l) { return add(l[0], l[1]); }},
    {"sub", [](const TensorList& l) { return sub(l[0], l[1]); }},
    {"mul", [](const TensorList& l) { return mul(l[0], l[1]); }},
    {"div", [](const TensorList& l) { return div(l[0], l[1]); }}};

// -2, -1, 1 and 2: quotients by them are exact.
Tensor powers(const Shape& shape, DType dtype, uint64_t seed) {
  std::vector<double> values = doubles(integers(shape, DType::f64, seed));
  for (double& value : values) value = value == 0 ? 1 : value;
  return cast(Tensor::from(values, shape), dtype);
}

void check_all(const Shape& a, const Shape& b, Effort effort = Effort::all_orders) {
  for (const auto& [name, function] : functions)
    for (const DType dtype : {DType::f32, DType::f64}) {
      CAPTURE(name);
      CAPTURE(a.str());
      CAPTURE(b.str());
      check_exact(function, {integers(a, dtype, 1), powers(b, dtype, 2)}, effort);
    }
}

}  // namespace

TEST_CASE("operands of one shape, of all sizes") {
  for (const int64_t size : {1, 2, 3, 4, 5, 31, 32, 33, 100, 255, 256, 257, 1025}) {
    if (looks_for_races && size > 33) continue;
    check_all({size}, {size});
  }
  check_all({}, {});
  check_all({3, 1, 5}, {1, 3, 1, 5});
}

TEST_CASE("operands that are stretched along any axes, and the sums of their gradients") {
  const std::vector<Pair> pairs = {{Shape{7}, Shape{}},
                                   {Shape{1}, Shape{2, 3}},
                                   {Shape{4, 6}, Shape{6}},
                                   {Shape{6}, Shape{4, 6}},
                                   {Shape{4, 6}, Shape{4, 1}},
                                   {Shape{3, 1}, Shape{1, 5}},
                                   {Shape{33, 65}, Shape{65}},
                                   {Shape{33, 65}, Shape{33, 1}},
                                   {Shape{2, 3, 1, 5}, Shape{3, 4, 1}},
                                   {Shape{2, 1, 2, 1, 3, 1, 2, 2}, Shape{1, 2, 2, 3, 1, 2, 1, 2}}};
  for (const auto& [a, b] : pairs) check_all(a, b);
}

TEST_CASE("sums of a block, and sums in chunks, of rows and of columns" * doctest::skip(looks_for_races)) {
  const std::vector<Pair> pairs = {{Shape{200, 7}, Shape{7}},         {Shape{130, 137}, Shape{137}},
                                   {Shape{1100, 2}, Shape{2}},        {Shape{3, 2100}, Shape{3, 1}},
                                   {Shape{3, 9001}, Shape{3, 1}},     {Shape{}, Shape{40001}},
                                   {Shape{5, 70, 6}, Shape{5, 1, 6}}, {Shape{70, 5, 60}, Shape{5, 1}}};
  for (const auto& [a, b] : pairs) check_all(a, b, Effort::once);
  const Tensor x = normal_sample({3, 9001}, DType::f32, 1), b = normal_sample({3, 1}, DType::f32, 2);
  const TensorList leaves = there(TensorList{x, b});  // numbers whose sums are not exact
  const Tensor dy = there(normal_sample({3, 9001}, DType::f32, 3));
  in_every_order([&] { return run(functions[2].second, leaves, dy); });
}

TEST_CASE("without elements there is nothing to compute, and sums of nothing are 0") {
  for (const auto& [a, b] : std::vector<Pair>{{Shape{0}, Shape{0}},
                                              {Shape{0}, Shape{1}},
                                              {Shape{0, 3}, Shape{1, 3}},
                                              {Shape{3, 0}, Shape{3, 1}},
                                              {Shape{2, 0, 3}, Shape{3}},
                                              {Shape{1, 0}, Shape{5, 1}}})
    check_all(a, b);
}

TEST_CASE("quotients by zero, NaNs and infinities are those of the CPU") {
  const double infinity = HUGE_VAL;
  const Tensor a = Tensor::from<double>({0, 1, -1, infinity, std::nan(""), 2}, {6, 1});
  const Tensor b = Tensor::from<double>({0, -0.0, infinity, 3, std::nan("")}, {5});
  for (const auto& [name, function] : functions) {
    CAPTURE(name);
    const std::vector<double> want = doubles(function({a, b})), got = doubles(function(there(TensorList{a, b})));
    for (size_t i = 0; i < want.size(); ++i) CHECK((got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]))));
  }
}
