// conv2d against its definition: plain loops in f64 over every product there is. ctest runs it once per instruction
// set.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/cpu/convolution.h>
#include <xent/xent.h>

#include "chance.h"
#include "data_files.h"
#include "machine_has_it.h"

using namespace xent;
using data_files::contains, data_files::error_of;

namespace {

using Doubles = std::vector<double>;

Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

struct Problem {
  Shape x, weight;
  Conv2dOptions options = {};
  bool bias = true;
  DType dtype = DType::f32;
};

int64_t steps(int64_t extent, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  int64_t count = 0;
  while (count * stride + dilation * (kernel - 1) < extent + 2 * padding) ++count;
  return count;
}

Shape result_shape(const Problem& p) {
  const Conv2dOptions& o = p.options;
  return {p.x[0], steps(p.x[1], p.weight[0], o.stride.height, o.padding.height, o.dilation.height),
          steps(p.x[2], p.weight[1], o.stride.width, o.padding.width, o.dilation.width), p.weight[3]};
}

// Calls term(index in y, in x, in the weight) for each product of the sums.
template <class Term>
void each_term(const Problem& p, const Term& term) {
  const Shape &x = p.x, &w = p.weight, y = result_shape(p);
  const Extent2d stride = p.options.stride, padding = p.options.padding, dilation = p.options.dilation;
  const int64_t height = x[1], width = x[2], in = x[3], out = w[3], rows = y[1], columns = y[2], kernel_width = w[1];
  for (int64_t n = 0; n < x[0]; ++n)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t k = 0; k < w[0]; ++k)
          for (int64_t l = 0; l < kernel_width; ++l) {
            const int64_t row = i * stride.height - padding.height + k * dilation.height;
            const int64_t column = j * stride.width - padding.width + l * dilation.width;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            for (int64_t c = 0; c < in; ++c)
              for (int64_t o = 0; o < out; ++o)
                term(static_cast<size_t>(((n * rows + i) * columns + j) * out + o),
                     static_cast<size_t>(((n * height + row) * width + column) * in + c),
                     static_cast<size_t>(((k * kernel_width + l) * in + c) * out + o));
          }
}

double activated(Activation f, double z) {
  if (f == Activation::relu) return z > 0 ? z : 0;
  if (f == Activation::tanh) return std::tanh(z);
  return f == Activation::sigmoid ? 1 / (1 + std::exp(-z)) : z;
}

double slope(Activation f, double y) {  // told from the result
  if (f == Activation::relu) return y > 0 ? 1 : 0;
  if (f == Activation::tanh) return 1 - y * y;
  return f == Activation::sigmoid ? y * (1 - y) : 1;
}

// The tensors of a problem, and what the definition makes of them.
struct Trial {
  Problem problem;
  Tensor x, weight, bias, dy;

  Trial(const Problem& p, uint64_t seed) : problem(p) {
    x = normal_sample(p.x, p.dtype, seed);
    weight = normal_sample(p.weight, p.dtype, seed + 1);
    if (p.bias) bias = normal_sample({p.weight[3]}, p.dtype, seed + 2);
    dy = normal_sample(result_shape(p), p.dtype, seed + 3);
  }

  Tensor run() const { return conv2d(x, weight, bias, problem.options); }

  std::vector<Tensor> leaves() const {
    return bias ? std::vector<Tensor>{x, weight, bias} : std::vector<Tensor>{x, weight};
  }

  Doubles result() const {
    const Doubles a = doubles(x), b = doubles(weight), c = bias ? doubles(bias) : Doubles();
    Doubles y(static_cast<size_t>(dy.elements()));
    each_term(problem, [&](size_t to, size_t at, size_t w) { y[to] += a[at] * b[w]; });
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = activated(problem.options.activation, y[i] + (bias ? c[i % c.size()] : 0));
    return y;
  }

  // dx, dweight and dbias of a result.
  std::vector<Doubles> gradients(const Doubles& y) const {
    const Doubles a = doubles(x), b = doubles(weight);
    Doubles dz = doubles(dy), dx(a.size()), dweight(b.size()), dbias(static_cast<size_t>(problem.weight[3]));
    for (size_t i = 0; i < dz.size(); ++i) {
      dz[i] *= slope(problem.options.activation, y[i]);
      dbias[i % dbias.size()] += dz[i];
    }
    each_term(problem, [&](size_t to, size_t at, size_t w) {
      dx[at] += dz[to] * b[w];
      dweight[w] += dz[to] * a[at];
    });
    return {dx, dweight, dbias};
  }

  // The largest distance, relative to the largest element, in units of what the dtype is good for.
  double distance(const Tensor& got, const Doubles& want) const {
    double worst = 0, scale = 1;
    const Doubles values = doubles(got);
    REQUIRE(values.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      if (std::isnan(values[i])) return HUGE_VAL;
      worst = std::max(worst, std::abs(values[i] - want[i]));
      scale = std::max(scale, std::abs(want[i]));
    }
    return worst / scale / (problem.dtype == DType::f32 ? 1e-5 : 1e-13);
  }
};

void check(const Trial& trial) {
  const Conv2dOptions& o = trial.problem.options;
  const Shape pairs{o.stride.height,
                    o.stride.width,
                    o.padding.height,
                    o.padding.width,
                    o.dilation.height,
                    o.dilation.width,
                    static_cast<int64_t>(o.activation)};
  const std::string problem = trial.x.shape().str() + " * " + trial.weight.shape().str() + pairs.str();
  CAPTURE(problem);
  const std::vector<Tensor> leaves = trial.leaves();
  Tape tape;
  for (const Tensor& leaf : leaves) tape.watch(leaf);
  const Tensor y = trial.run();
  REQUIRE(y.shape() == result_shape(trial.problem));
  CHECK(trial.distance(y, trial.result()) < 1);

  std::vector<Doubles> want = trial.gradients(doubles(y));
  const Gradients gradients = tape.backward(y, {.upstream = trial.dy, .retain = true});
  for (size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    CHECK(trial.distance(gradients[leaves[i]], want[i]) < 1);
  }

  Gradients sums = Gradients::zeros(leaves);
  sums.fill(1);
  tape.backward(y, sums, {.upstream = trial.dy, .retain = true});
  tape.backward(y, sums, {.upstream = trial.dy});
  for (size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    for (double& value : want[i]) value = 1 + 2 * value;
    CHECK(trial.distance(sums[leaves[i]], want[i]) < 1);
  }
}

// The bits of the result and all gradients.
std::vector<std::vector<double>> everything_of(const Trial& trial) {
  Tape tape;
  for (const Tensor& leaf : trial.leaves()) tape.watch(leaf);
  const Tensor y = trial.run();
  const Gradients gradients = tape.backward(y, {.upstream = trial.dy});
  std::vector<Doubles> all = {doubles(y)};
  for (const Tensor& leaf : trial.leaves()) all.push_back(doubles(gradients[leaf]));
  return all;
}

cpu::Convolution convolution(const Problem& p) { return {p.x, p.weight, result_shape(p), p.options}; }

// Several blocks of patches in each of several parts, with and without a gather, and one with a weight too large to be
// cut: its product is what runs in parallel.
const std::vector<Problem>& large_problems() {
  static const std::vector<Problem> problems = {
      {{5, 40, 41, 3}, {3, 2, 3, 5}, {.padding = {1, 2}, .activation = Activation::relu}},
      {{3, 70, 69, 17}, {1, 1, 17, 9}, {.activation = Activation::tanh}},
      {{2, 6, 6, 256}, {3, 3, 256, 512}, {.padding = 1}},
  };
  return problems;
}

}  // namespace

TEST_CASE("conv2d and its gradients, also added to others, are what the definition says") {
  if (!machine_has_it()) return;
  const bool poisoned = poison_fresh_memory(true);
  int pointwise = 0;
  for (uint64_t seed = 0; seed < 240; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    const auto pair = [&](int64_t low, int64_t high) { return Extent2d(c.from(low, high), c.from(low, high)); };
    Problem p;
    p.options = {pair(1, 3), pair(0, 4), pair(1, 3), static_cast<Activation>(c.below(4))};
    Extent2d kernel = pair(1, 4);
    if (c.one_in(5)) kernel = 1, p.options.stride = 1, p.options.padding = 0;
    const auto extent = [&](int64_t taps, int64_t padding, int64_t dilation) {  // at least what the kernel reaches over
      const int64_t least = dilation * (taps - 1) + 1 - 2 * padding;
      return std::max<int64_t>(least, c.one_in(12) && least <= 0 ? 0 : 1) + (c.one_in(8) ? 0 : c.from(0, 9));
    };
    const int64_t in = c.any<int64_t>({1, 2, 3, 4, 17, 33}), out = c.any<int64_t>({1, 2, 5, 8, 17, 33});
    p.x = {c.from(1, 4), extent(kernel.height, p.options.padding.height, p.options.dilation.height),
           extent(kernel.width, p.options.padding.width, p.options.dilation.width), in};
    p.weight = {kernel.height, kernel.width, in, out};
    p.bias = c.one_in(2);
    p.dtype = c.one_in(3) ? DType::f64 : DType::f32;
    pointwise += convolution(p).pointwise() ? 1 : 0;
    check(Trial(p, seed));
  }
  CHECK(pointwise > 20);
  poison_fresh_memory(poisoned);
}

TEST_CASE("conv2d of many pixels, or of a large weight, is what the definition says") {
  if (!machine_has_it()) return;
  const auto& problems = large_problems();
  for (const size_t i : {size_t{0}, size_t{1}}) {
    const cpu::Convolution c = convolution(problems[i]);
    CHECK(c.forward_parts() == 16);
    CHECK(c.weight_parts() == 16);
    CHECK(c.pixels() > 16 * 2 * c.patch_rows());
    CHECK(c.pointwise() == (i == 1));
  }
  CHECK(convolution(problems[2]).weight_parts() == 1);
  CHECK(convolution(problems[2]).forward_parts() > 1);
  for (const Problem& problem : problems) check(Trial(problem, 1));
}

TEST_CASE("conv2d and its gradients have the same bits for any number of threads") {
  if (!machine_has_it()) return;
  const int before = threads();
  for (const Problem& problem : large_problems()) {
    const Trial trial(problem, 2);
    set_threads(1);
    const auto one = everything_of(trial);
    for (const int count : {2, 3}) {
      set_threads(count);
      const auto many = everything_of(trial);
      for (size_t i = 0; i < one.size(); ++i) {
        CAPTURE(i);
        CHECK(std::memcmp(one[i].data(), many[i].data(), one[i].size() * sizeof(double)) == 0);
      }
    }
  }
  set_threads(before);
}

TEST_CASE("conv2d computes each gradient alone as it does with the others") {
  if (!machine_has_it()) return;
  const Trial trial({{3, 9, 8, 3}, {3, 2, 3, 5}, {.stride = {1, 2}, .padding = 1, .activation = Activation::relu}}, 3);
  const auto all = everything_of(trial);
  const std::vector<Tensor> leaves = trial.leaves();
  for (size_t i = 0; i < leaves.size(); ++i) {
    Tape tape;
    tape.watch(leaves[i]);
    const Tensor y = trial.run();
    CHECK(doubles(tape.backward(y, {.upstream = trial.dy})[leaves[i]]) == all[i + 1]);
  }
}

TEST_CASE("conv2d of no images, or to no channels, is empty, and its gradients are zero") {
  if (!machine_has_it()) return;
  for (const Problem& problem :
       {Problem{{0, 5, 5, 2}, {3, 3, 2, 4}, {.activation = Activation::tanh}}, Problem{{2, 5, 5, 2}, {3, 3, 2, 0}}}) {
    const Trial trial(problem, 4);
    const auto all = everything_of(trial);
    CHECK(trial.run().shape() == Shape{problem.x[0], 3, 3, problem.weight[3]});
    CHECK(all[0].empty());
    for (const Doubles& gradient : all)
      for (const double value : gradient) CHECK(value == 0);
    CHECK(all[2].size() == static_cast<size_t>(problem.weight.elements()));
  }
}

TEST_CASE("conv2d does not flip the kernel and reads nothing but zeros around the image") {
  if (!machine_has_it()) return;
  const Tensor x = Tensor::from({1, 2, 3, 4}, {1, 1, 4, 1}), weight = Tensor::from({1, 10, 100}, {1, 3, 1, 1});
  CHECK(doubles(conv2d(x, weight, {}, {.padding = {0, 1}})) == Doubles{210, 321, 432, 43});
  CHECK(doubles(conv2d(x, weight, {}, {.stride = {1, 3}, .padding = {0, 2}, .dilation = {1, 2}})) == Doubles{310, 42});
  const Tensor bias = Tensor::from({7}, {1});
  CHECK(doubles(conv2d(x, weight, bias, {.stride = {1, 40}, .padding = {0, 50}})) == Doubles{7, 7, 7});
}

TEST_CASE("conv2d keeps infinities and NaN where they are read, and nowhere else") {
  if (!machine_has_it()) return;
  Tensor x = Tensor::ones({1, 5, 5, 1});
  x.mutable_data<float>()[12] = NAN;
  const Doubles y = doubles(conv2d(x, Tensor::ones({1, 2, 1, 3})));
  for (size_t i = 0; i < y.size(); ++i) CHECK(std::isnan(y[i]) == (i / 12 == 2 && (i / 3 % 4 == 1 || i / 3 % 4 == 2)));
}

TEST_CASE("conv2d refuses options out of range, naming them") {
  const Tensor x = Tensor::ones({2, 5, 6, 3}), weight = Tensor::ones({3, 3, 3, 4});
  const auto text = [&](const Conv2dOptions& options) {
    return error_of<ArgumentError>([&] { conv2d(x, weight, {}, options); });
  };
  for (const int64_t value : {int64_t{0}, int64_t{-1}, INT64_MIN, INT64_MAX}) {
    CAPTURE(value);
    const std::string number = std::to_string(value);
    for (const Extent2d& both : {Extent2d(value, 1), Extent2d(1, value), Extent2d(value)}) {
      CHECK(contains(text({.stride = both}), "conv2d: stride " + number));
      CHECK(contains(text({.dilation = both}), "dilation " + number));
      if (value != 0) CHECK(contains(text({.padding = both}), "padding " + number));
    }
  }
  CHECK(contains(text({.activation = static_cast<Activation>(4)}), "activation 4"));
  CHECK(contains(text({.activation = static_cast<Activation>(-1)}), "activation -1"));
}

TEST_CASE("conv2d refuses tensors that do not fit, naming their shapes") {
  const auto ones = [](const Shape& shape, DType dtype = DType::f32) { return Tensor::ones(shape, dtype); };
  const Tensor x = ones({2, 5, 6, 3}), weight = ones({3, 3, 3, 4});
  const auto text = [&](const Tensor& a, const Tensor& b, const Tensor& bias, const Conv2dOptions& options = {}) {
    return error_of<ShapeError>([&] { conv2d(a, b, bias, options); });
  };
  CHECK(contains(text(ones({5, 6, 3}), weight, {}), "conv2d: input [5, 6, 3]"));
  CHECK(contains(text(x, ones({3, 3, 4}), {}), "weight [3, 3, 4]"));
  CHECK(contains(text(x, ones({3, 3, 2, 4}), {}), "its last extent must be 2"));
  CHECK(contains(text(ones({2, 5, 6, 0}), ones({3, 3, 0, 4}), {}), "at least 1"));
  CHECK(contains(text(x, weight, ones({3})), "bias [3] must be [4]"));
  CHECK(contains(text(x, weight, ones({1, 4})), "bias [1, 4] must be [4]"));
  CHECK(contains(text(x, ones({6, 3, 3, 4}), {}), "reaches over 6"));
  CHECK(contains(text(x, ones({3, 7, 3, 4}), {}), "reaches over 7"));
  CHECK(contains(text(x, ones({0, 3, 3, 4}), {}), "a window of 0"));
  CHECK(contains(text(x, weight, {}, {.dilation = {1, 3}}), "reaches over 7"));
  CHECK(contains(text(x, weight, {}, {.dilation = int64_t{1} << 30}), "reaches over 2147483649"));
  CHECK(contains(text(x, weight, {}, {.padding = int64_t{1} << 30}), "conv2d: "));
  CHECK(contains(text(ones({0, int64_t{1} << 40, 6, 3}), weight, {}), "conv2d: "));
}

TEST_CASE("conv2d refuses other dtypes, and mixed ones") {
  const Tensor x = Tensor::ones({2, 5, 6, 3}), weight = Tensor::ones({3, 3, 3, 4}), bias = Tensor::ones({4});
  for (const DType dtype : {DType::f64, DType::f16, DType::u8, DType::i64}) {
    const auto text = [&](const Tensor& a, const Tensor& b, const Tensor& c) {
      return error_of<DTypeError>([&] { conv2d(a, b, c); });
    };
    CHECK(contains(text(cast(x, dtype), weight, bias), "conv2d"));
    CHECK(contains(text(x, cast(weight, dtype), bias), "conv2d"));
    CHECK(contains(text(x, weight, cast(bias, dtype)), "conv2d"));
    if (dtype != DType::f64) CHECK(contains(text(cast(x, dtype), cast(weight, dtype), {}), "cast them"));
  }
}
