// A convolution's tensors, and what its definition makes of them: plain loops in f64 over every product there is.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/cpu/winograd.h>
#include <xent/xent.h>

namespace conv2d_trial {

using namespace xent;
using Doubles = std::vector<double>;

inline Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

struct Problem {
  Shape x, weight;
  Conv2dOptions options = {};
  bool bias = true;
  DType dtype = DType::f32;
};

inline int64_t steps(int64_t extent, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  int64_t count = 0;
  while (count * stride + dilation * (kernel - 1) < extent + 2 * padding) ++count;
  return count;
}

inline Shape result_shape(const Problem& p) {
  const Conv2dOptions& o = p.options;
  return {p.x[0], steps(p.x[1], p.weight[0], o.stride.height, o.padding.height, o.dilation.height),
          steps(p.x[2], p.weight[1], o.stride.width, o.padding.width, o.dilation.width), p.weight[3]};
}

inline cpu::Convolution convolution(const Problem& p) { return {p.x, p.weight, result_shape(p), p.options}; }

// Calls term(index in y, in x, in the weight) for each product of the sums. There are many: under sanitizers a term
// that goes by pointers takes half the time of one that indexes vectors.
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

inline double activated(Activation f, double z) {
  if (f == Activation::relu) return z > 0 ? z : 0;
  if (f == Activation::tanh) return std::tanh(z);
  return f == Activation::sigmoid ? 1 / (1 + std::exp(-z)) : z;
}

inline double slope(Activation f, double y) {  // told from the result
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
    // So small that results are about 1: activations that saturate would hide how large an error is.
    weight = normal_sample(p.weight, p.dtype, seed + 1) * (1 / std::sqrt(p.weight[0] * p.weight[1] * p.weight[2]));
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
    each_term(problem,
              [y = y.data(), a = a.data(), b = b.data()](size_t to, size_t at, size_t w) { y[to] += a[at] * b[w]; });
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
    each_term(problem, [dx = dx.data(), dweight = dweight.data(), dz = dz.data(), a = a.data(), b = b.data()](
                           size_t to, size_t at, size_t w) {
      dx[at] += dz[to] * b[w];
      dweight[w] += dz[to] * a[at];
    });
    return {dx, dweight, dbias};
  }

  // The largest distance, relative to the largest element, in units of what the dtype is good for. Winograd's
  // transforms multiply by up to 8 and subtract what they added, for which they pay with a digit.
  double distance(const Tensor& got, const Doubles& want) const {
    double worst = 0, scale = 1;
    const Doubles values = doubles(got);
    REQUIRE(values.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      if (std::isnan(values[i])) return HUGE_VAL;
      worst = std::max(worst, std::abs(values[i] - want[i]));
      scale = std::max(scale, std::abs(want[i]));
    }
    if (problem.dtype == DType::f64) return worst / scale / 1e-13;
    return worst / scale / (cpu::Winograd::serves(convolution(problem)) ? 5e-5 : 1e-5);
  }
};

inline void check(const Trial& trial) {
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
inline std::vector<std::vector<double>> everything_of(const Trial& trial) {
  Tape tape;
  for (const Tensor& leaf : trial.leaves()) tape.watch(leaf);
  const Tensor y = trial.run();
  const Gradients gradients = tape.backward(y, {.upstream = trial.dy});
  std::vector<Doubles> all = {doubles(y)};
  for (const Tensor& leaf : trial.leaves()) all.push_back(doubles(gradients[leaf]));
  return all;
}

// Result and gradients have the same bits for any number of threads.
inline void check_threads(const Trial& trial) {
  const int before = threads();
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
  set_threads(before);
}

// Each gradient is computed alone as it is with the others.
inline void check_alone(const Trial& trial) {
  const auto all = everything_of(trial);
  const std::vector<Tensor> leaves = trial.leaves();
  for (size_t i = 0; i < leaves.size(); ++i) {
    Tape tape;
    tape.watch(leaves[i]);
    const Tensor y = trial.run();
    CHECK(doubles(tape.backward(y, {.upstream = trial.dy})[leaves[i]]) == all[i + 1]);
  }
}

}  // namespace conv2d_trial
