// Trials of an op on CUDA: its result and gradients, the same bits in every order of threads and blocks, from memory
// that is aligned and from memory that is not.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_orders.h"

namespace cuda_trial {

using namespace xent;

using TensorList = std::vector<Tensor>;
using Function = std::function<Tensor(const TensorList& leaves)>;

// Small whole numbers: products of them and sums of those are exact, in any order.
inline Tensor integers(const Shape& shape, DType dtype, uint64_t seed) {
  HostRandom random(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < shape.elements(); ++i) values.push_back(static_cast<float>(random.below(5)) - 2);
  return cast(Tensor::from(values, shape), dtype);
}

inline std::vector<double> doubles(const Tensor& x) {
  return cast(x.to(Device::cpu()), DType::f64).to_vector<double>();
}

// A copy on the device; one element further on than what memory comes aligned to, where so wanted.
inline Tensor there(const Tensor& x, bool aligned = true) {
  if (!x || aligned) return x ? x.to(Device::cuda()) : x;
  const int64_t count = x.elements();
  Tensor place = Tensor::zeros({count + 1}, x.dtype(), Device::cuda()).slice(1, count + 1).reshape(x.shape());
  place.copy_from(x);
  return place;
}

inline TensorList there(const TensorList& all, bool aligned = true) {
  TensorList copies;
  for (const Tensor& x : all) copies.push_back(there(x, aligned));
  return copies;
}

enum class Passes { one, two_added_to_ones };

// The result, then the gradient of each leaf whose bit is set, where the leaves are.
inline TensorList run(const Function& function, const TensorList& leaves, const Tensor& upstream,
                      Mask wanted = everything, Passes passes = Passes::one) {
  TensorList watched, results;
  Tape tape;
  for (size_t i = 0; i < leaves.size(); ++i)
    if (leaves[i] && wanted >> i & 1) watched.push_back(leaves[i]);
  for (const Tensor& leaf : watched) tape.watch(leaf);
  results.push_back(function(leaves));
  Gradients gradients;
  if (passes == Passes::one) {
    gradients = tape.backward(results[0], {.upstream = upstream});
  } else {
    gradients = Gradients::zeros(watched);
    gradients.fill(1);
    tape.backward(results[0], gradients, {.upstream = upstream, .retain = true});
    tape.backward(results[0], gradients, {.upstream = upstream});
  }
  for (const Tensor& leaf : watched) results.push_back(gradients[leaf]);
  return results;
}

enum class Effort { all_orders, once };

// Checks that the function gives on CUDA exactly what it gives on the CPU in f64, where neither rounds: for leaves and
// an upstream of small whole numbers. Each gradient alone is what it is with the others.
inline void check_exact(const Function& function, const TensorList& leaves, Effort effort = Effort::all_orders) {
  TensorList wide;
  DType dtype = DType::f32;
  for (const Tensor& leaf : leaves) {
    wide.push_back(leaf ? cast(leaf, DType::f64) : leaf);
    if (leaf) dtype = leaf.dtype();
  }
  const Tensor upstream = integers(function(wide).shape(), dtype, 99);
  const TensorList expected = run(function, wide, cast(upstream, DType::f64));
  const auto check_values = [&](const TensorList& got, double factor, double term) {
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i].shape() == expected[i].shape());
      std::vector<double> want = doubles(expected[i]);
      for (double& value : want) value = i == 0 ? value : factor * value + term;
      CHECK(doubles(got[i]) == want);
    }
  };
  if (effort == Effort::once)
    return check_values(run(function, there(leaves), there(upstream), everything, Passes::two_added_to_ones), 2, 1);
  for (const bool aligned : {true, false}) {
    const TensorList device = there(leaves, aligned);
    const Tensor dy = there(upstream, aligned);
    check_values(in_every_order([&] { return run(function, device, dy); }), 1, 0);
    if (aligned) continue;
    check_values(run(function, device, dy, everything, Passes::two_added_to_ones), 2, 1);
    for (size_t i = 0, at = 1; i < leaves.size(); ++i) {
      if (!leaves[i]) continue;
      const TensorList alone = run(function, device, dy, Mask{1} << i);
      CHECK(doubles(alone[1]) == doubles(expected[at++]));
    }
  }
}

// The largest |got - want| / (epsilon size), element by element; size is what the rounded terms add up to.
inline double errors_of(const Tensor& got, const Tensor& want, const Tensor& size) {
  const double epsilon = got.dtype() == DType::f32 ? 0x1p-24 : 0x1p-53;
  const std::vector<double> x = doubles(got), y = doubles(want), scale = doubles(size);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(x[i] - y[i]) / (epsilon * (scale[i] + 1)));
  }
  return worst;
}

// Checks that rounding is all that distinguishes the function on CUDA from f64 on the CPU. Sums have at most so many
// terms; `plain` is the function without its activation, whose derivative is at most 1. With the sizes of all numbers
// instead of the numbers, it gives what an error of each is relative to.
inline void check_close(const Function& function, const Function& plain, const TensorList& leaves, int64_t terms) {
  const auto wide = [](const TensorList& all, bool size) {
    TensorList results;
    for (const Tensor& x : all) {
      if (!x) {
        results.emplace_back();
        continue;
      }
      std::vector<double> values = doubles(x);
      for (double& value : values) value = size ? std::abs(value) : value;
      results.push_back(Tensor::from(values, x.shape()));
    }
    return results;
  };
  const Tensor upstream = normal_sample(function(leaves).shape(), leaves[0].dtype(), 98);
  const TensorList expected = run(function, wide(leaves, false), wide({upstream}, false)[0]);
  const TensorList size = run(plain, wide(leaves, true), wide({upstream}, true)[0]);
  const TensorList device = there(leaves);
  const TensorList got = in_every_order([&] { return run(function, device, there(upstream)); });
  REQUIRE(got.size() == expected.size());
  double largest = 1;
  for (const double value : doubles(size[0])) largest = std::max(largest, value);
  const double of_result = static_cast<double>(terms) + 8;  // the sum, the bias, the function
  CHECK(errors_of(got[0], expected[0], size[0]) <= of_result);
  for (size_t i = 1; i < got.size(); ++i) {
    CAPTURE(i);
    // The derivative is told from a result that has the error above.
    CHECK(errors_of(got[i], expected[i], size[i]) <= of_result + 2 * of_result * largest);
  }
}

}  // namespace cuda_trial
