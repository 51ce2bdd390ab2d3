// The elementwise functions on CUDA: near those of f64 on the CPU for every size and alignment, the same at the edges
// of the numbers.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

struct Case {
  const char* name;
  Function function;
  Tensor (*sample)(const Shape&, DType, uint64_t);
};

std::vector<Case> cases() {
  const auto of = [](Tensor (*f)(const Tensor&)) { return [f](const TensorList& l) { return f(l[0]); }; };
  return {{"relu", of(relu), nonzero_sample},
          {"tanh", of(tanh), normal_sample},
          {"sigmoid", of(sigmoid), normal_sample},
          {"gelu", of(gelu), normal_sample},
          {"exp", of(exp), normal_sample},
          {"log", of(log), positive_sample},
          {"sqrt", of(sqrt), positive_sample},
          {"scale", [](const TensorList& l) { return scale(l[0], -2.5); }, normal_sample},
          {"shift", [](const TensorList& l) { return shift(l[0], 0.75); }, normal_sample}};
}

// Some ulps of the function, and of its derivative where that is told from a rounded result.
void check_near(const Tensor& got, const Tensor& want, const std::vector<double>& size) {
  const double epsilon = got.dtype() == DType::f32 ? 0x1p-24 : 0x1p-53;
  const std::vector<double> x = doubles(got), y = doubles(want);
  REQUIRE(x.size() == y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::abs(x[i] - y[i]) <= 64 * epsilon * (std::abs(y[i]) + size[i])) continue;
    CAPTURE(i);
    CHECK(x[i] == y[i]);
  }
}

}  // namespace

TEST_CASE("every function and its gradient is that of f64 on the CPU, for all sizes, aligned or not") {
  std::vector<int64_t> sizes = {0, 1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 100, 255, 256, 257, 1023, 1024, 1025};
  if (looks_for_races) sizes = {3, 33, 257};
  for (const Case& c : cases())
    for (const DType dtype : {DType::f32, DType::f64})
      for (const int64_t size : sizes)
        for (const bool aligned : {true, false}) {
          CAPTURE(c.name);
          CAPTURE(name(dtype));
          CAPTURE(size);
          CAPTURE(aligned);
          const Tensor x = c.sample({size}, dtype, 5), dy = normal_sample({size}, dtype, 6);
          const TensorList expected = run(c.function, {cast(x, DType::f64)}, cast(dy, DType::f64));
          const TensorList device = there(TensorList{x}, aligned);
          const Tensor upstream = there(dy, aligned);
          const TensorList got = in_every_order([&] { return run(c.function, device, upstream); });
          std::vector<double> of_x(static_cast<size_t>(size), 1), of_dx = doubles(dy);
          for (double& value : of_dx) value = std::abs(value);
          check_near(got[0], expected[0], of_x);
          check_near(got[1], expected[1], of_dx);
        }
}

TEST_CASE("more elements than threads: a thread takes several packs, and several of the rest") {
  const int64_t size = (int64_t{1} << 20) + 4096 * 4 + 3;  // unaligned, each thread has one or two elements
  for (const bool aligned : {true, false}) {
    const Tensor x = there(Tensor::full({size}, 3), aligned);
    const Tensor y = relu(x).to(Device::cpu());
    CHECK(y.data<float>()[0] == 3);
    double sum = 0;
    for (const float value : y.to_vector<float>()) sum += static_cast<double>(value);
    CHECK(sum == 3.0 * static_cast<double>(size));
  }
}

TEST_CASE("NaNs, infinities, zeros and huge numbers come out as on the CPU") {
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> edges = {std::nan(""), infinity, -infinity, 0.0, -0.0, 1e30, -1e30, 1e-40, -90, 90, 20};
  const auto count = static_cast<int64_t>(edges.size());
  for (const Case& c : cases())
    for (const DType dtype : {DType::f32, DType::f64}) {
      CAPTURE(c.name);
      const Tensor x = cast(Tensor::from(edges, {count}), dtype), ones = Tensor::ones({count}, dtype);
      const TensorList expected = run(c.function, {x}, ones), got = run(c.function, there(TensorList{x}), there(ones));
      for (size_t k = 0; k < 2; ++k) {
        const std::vector<double> want = doubles(expected[k]), have = doubles(got[k]);
        for (size_t i = 0; i < want.size(); ++i) {
          CAPTURE(edges[i]);
          if (std::isnan(want[i])) CHECK(std::isnan(have[i]));
          else if (std::isinf(want[i])) CHECK(have[i] == want[i]);
          else CHECK(std::abs(have[i] - want[i]) <= 1e-6 * std::abs(want[i]) + 1e-37);
        }
      }
    }
}
