// matmul and linear on CUDA, and the sums of a bias gradient.
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/blas.h>
#include <xent/cuda/context.h>
#include <xent/xent.h>

#include "cuda_trial.h"

using namespace xent;
using namespace cuda_trial;

namespace {

constexpr DType dtypes[] = {DType::f32, DType::f64};
constexpr Activation activations[] = {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid};

Function linear_with(Activation activation) {
  return [=](const TensorList& l) { return linear(l[0], l[1], l[2], activation); };
}

TensorList linear_leaves(const Shape& x, int64_t out, DType dtype, bool bias) {
  return {integers(x, dtype, 1), integers({x[-1], out}, dtype, 2), bias ? integers({out}, dtype, 3) : Tensor()};
}

}  // namespace

TEST_CASE("matmul multiplies as on the CPU for all transposes and sizes, and so do its gradients") {
  const int64_t sizes[][3] = {{1, 1, 1}, {2, 3, 1}, {1, 5, 4}, {31, 33, 7}, {32, 64, 65}, {100, 3, 257}};
  for (const DType dtype : dtypes)
    for (const auto [m, n, k] : sizes)
      for (const bool a : {false, true})
        for (const bool b : {false, true}) {
          CAPTURE(m);
          CAPTURE(n);
          CAPTURE(k);
          check_exact(
              [=](const TensorList& l) {
                return matmul(l[0], l[1], {a, b});
              },
              {integers(a ? Shape{k, m} : Shape{m, k}, dtype, 1), integers(b ? Shape{n, k} : Shape{k, n}, dtype, 2)});
        }
}

TEST_CASE("products of nothing are 0 or nothing, and so are their gradients") {
  for (const DType dtype : dtypes)
    for (const auto [m, n, k] : {std::array<int64_t, 3>{0, 3, 2}, {3, 0, 2}, {3, 2, 0}, {0, 0, 0}})
      for (const bool transposed : {false, true})
        check_exact(
            [=](const TensorList& l) {
              return matmul(l[0], l[1], {transposed, transposed});
            },
            {integers(transposed ? Shape{k, m} : Shape{m, k}, dtype, 1),
             integers(transposed ? Shape{n, k} : Shape{k, n}, dtype, 2)});
}

TEST_CASE("matmul in f32 is within the rounding of its sums") {
  check_close([](const TensorList& l) { return matmul(l[0], l[1]); },
              [](const TensorList& l) { return matmul(l[0], l[1]); },
              {normal_sample({65, 300}, DType::f32, 1), normal_sample({300, 33}, DType::f32, 2)}, 300);
}

TEST_CASE("infinities and NaNs pass through a product") {
  const double infinity = std::numeric_limits<double>::infinity();
  const Tensor a = there(Tensor::from(std::vector<double>{1, infinity, std::nan(""), 1, 0, 1}, {3, 2}));
  const Tensor b = there(Tensor::from(std::vector<double>{1, 2, 3, 0}, {2, 2}));
  const std::vector<double> c = doubles(matmul(a, b));
  CHECK(c[0] == infinity);
  CHECK(std::isnan(c[1]));
  CHECK(std::isnan(c[2]));
  CHECK(c[4] == 3);
}

TEST_CASE("linear with and without bias and relu is exact on whole numbers, its gradients too") {
  for (const DType dtype : dtypes)
    for (const int64_t out : {1, 2, 3, 10, 31, 32, 33, 65})
      for (const int64_t rows : {1, 2, 3, 31, 33, 257})
        for (const Activation activation : {Activation::none, Activation::relu}) {
          if (dtype == DType::f64 && rows > 3) continue;
          CAPTURE(rows);
          CAPTURE(out);
          check_exact(linear_with(activation), linear_leaves({rows, 5}, out, dtype, (rows + out) % 4 != 0));
        }
  check_exact(linear_with(Activation::relu), linear_leaves({2, 3, 4, 7}, 6, DType::f32, true));
}

TEST_CASE("linear of no rows, no inputs or no outputs is what the bias makes of it") {
  for (const DType dtype : dtypes)
    for (const Activation activation : {Activation::none, Activation::relu})
      for (const bool bias : {false, true}) {
        check_exact(linear_with(activation), linear_leaves({0, 3}, 2, dtype, bias));
        check_exact(linear_with(activation), linear_leaves({3, 0}, 2, dtype, bias));
        check_exact(linear_with(activation), linear_leaves({3, 2}, 0, dtype, bias));
      }
}

TEST_CASE("a bias gradient over many rows is the sum of them all") {
  std::vector<int64_t> rows = {255, 256, 511, 512, 513, 1023, 1025};
  if (!looks_for_races) rows.insert(rows.end(), {9973, 70001});
  for (const int64_t count : rows)
    for (const int64_t out : {1, 3, 33}) {
      CAPTURE(count);
      CAPTURE(out);
      if (count > 2000 && out > 1) continue;
      check_exact(linear_with(count % 2 ? Activation::relu : Activation::none),
                  linear_leaves({count, 1}, out, DType::f32, true));
    }
}

TEST_CASE("linear of more elements than there are threads is as that of few") {
  if (looks_for_races) return;
  for (const bool bias : {true, false})
    check_exact(linear_with(Activation::relu), linear_leaves({3989, 1}, 263, DType::f32, bias), Effort::once);
}

TEST_CASE("a bias gradient is summed in f64 and rounded once") {
  // In f32 every 1 after the 2^24 would be lost.
  std::vector<float> upstream(3000, 1);
  upstream[0] = 0x1p24f;
  const Tensor bias = there(Tensor::zeros({1}));
  Tape tape;
  tape.watch(bias);
  const Tensor y = linear(there(Tensor::zeros({3000, 1})), there(Tensor::zeros({1, 1})), bias);
  const Gradients gradients = tape.backward(y, {.upstream = there(Tensor::from(upstream, {3000, 1}))});
  CHECK(gradients[bias].item() == 0x1p24 + 3000);  // 2^24 + 2999, rounded to even
}

TEST_CASE("linear is within the rounding of its sums for every activation") {
  for (const DType dtype : dtypes)
    for (const Activation activation : activations)
      check_close(linear_with(activation), linear_with(Activation::none),
                  {normal_sample({70, 31}, dtype, 1), normal_sample({31, 33}, dtype, 2), normal_sample({33}, dtype, 3)},
                  70);
}

TEST_CASE("an activation keeps NaN, as on the CPU") {
  for (const Activation activation : activations) {
    const Tensor x = Tensor::from(std::vector<float>{1, std::nanf(""), -2, 3}, {4, 1});
    const Tensor weight = Tensor::from(std::vector<float>{1, -1}, {1, 2}), bias = Tensor::from({0.5, 1.5}, {2});
    const std::vector<double> y = doubles(linear(there(x), there(weight), there(bias), activation));
    for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i == 2 || i == 3));
  }
}

TEST_CASE("a bias that begins at any element is added all the same") {
  for (const DType dtype : dtypes) {
    const Tensor x = integers({6, 5}, dtype, 1), weight = integers({5, 7}, dtype, 2), biases = integers({40}, dtype, 3);
    const Tensor all = there(biases);
    for (int64_t begin = 0; begin < 9; ++begin)
      CHECK(same_bits(linear(there(x), there(weight), all.slice(begin, begin + 7)).to(Device::cpu()),
                      linear(x, weight, biases.slice(begin, begin + 7))));
  }
}

TEST_CASE("once a shape is known, products and their fallback can be captured in a graph") {
  const Tensor x = there(integers({9, 4}, DType::f32, 1)), weight = there(integers({4, 6}, DType::f32, 2));
  const Tensor bias = there(integers({6}, DType::f32, 3));
  Tensor y = Tensor::zeros({9, 6}, DType::f32, Device::cuda());
  cuda::Context& context = cuda::context(0);
  const Call call = {.stream = {context.stream, context.errors}};
  const auto product = [&] {
    REQUIRE(cuda::gemm_with_bias<float>(call, {9, 6, 4}, static_cast<float*>(x.raw()),
                                        static_cast<float*>(weight.raw()), static_cast<float*>(bias.raw()),
                                        static_cast<float*>(y.raw())));
    cuda::gemm<float>(call, {9, 6, 4}, static_cast<float*>(x.raw()), static_cast<float*>(weight.raw()), 1,
                      static_cast<float*>(y.raw()));
    cuda::gemm<float>(call, {9, 6, 0}, static_cast<float*>(x.raw()), static_cast<float*>(weight.raw()), 1,
                      static_cast<float*>(y.raw()));
  };
  product();
  const std::vector<double> eager = doubles(y);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  REQUIRE(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  product();
  REQUIRE(cudaStreamEndCapture(context.stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess);
  y.fill(7);
  REQUIRE(cudaGraphLaunch(ready, context.stream) == cudaSuccess);
  CHECK(doubles(y) == eager);
  cudaGraphExecDestroy(ready);
  cudaGraphDestroy(graph);
}
