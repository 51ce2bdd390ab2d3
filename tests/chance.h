// Chance: what random calls are made of: the usual, the empty and the absurd.
//
//   Chance chance(seed);
//   xent::Tensor x = chance.tensor();  // any shape, dtype and values; at times an empty handle, or a view
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <xent/core/random.h>
#include <xent/ops/ops.h>

using Extents = std::vector<int64_t>;

inline xent::Shape shape_of(const Extents& extents) { return xent::Shape(std::span<const int64_t>(extents)); }

struct Chance : xent::HostRandom {
  using HostRandom::HostRandom;

  bool one_in(uint64_t count) { return below(count) == 0; }
  int64_t from(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1)));
  }
  template <class T>
  T any(const std::vector<T>& values) { return values[below(values.size())]; }

  int64_t axis() { return one_in(8) ? any<int64_t>({INT64_MIN, INT64_MAX, -9, 8}) : from(-3, 2); }
  double number() {
    if (!one_in(3)) return normal();
    return any<double>({0, -0.0, 1, -1, 3, 300, -3e9, 9.3e18, 1e-310, 1e300, -1e300, HUGE_VAL, -HUGE_VAL, NAN});
  }
  xent::DType dtype() {
    if (!one_in(4)) return any<xent::DType>({xent::DType::f32, xent::DType::f64});
    return any<xent::DType>({xent::DType::f16, xent::DType::bf16, xent::DType::u8, xent::DType::i32, xent::DType::i64});
  }
  xent::Shape shape() {
    Extents extents(one_in(6) ? below(9) : below(4));
    for (int64_t& extent : extents) extent = one_in(12) ? 0 : from(1, extents.size() > 4 ? 2 : 5);
    return shape_of(extents);
  }
  xent::Tensor tensor(const xent::Shape& shape, xent::DType dtype) {  // at times one that lies within another
    const int64_t margin = one_in(3) ? from(1, 5) : 0;
    std::vector<double> values(static_cast<size_t>(shape.elements() + 2 * margin));
    for (double& value : values) value = number();
    return xent::cast(xent::Tensor::from(values, {shape.elements() + 2 * margin}), dtype).view(shape, margin);
  }
  xent::Tensor tensor() { return one_in(25) ? xent::Tensor() : tensor(shape(), dtype()); }
  xent::Tensor mostly(const xent::Shape& shape, xent::DType dtype) { return one_in(12) ? tensor() : tensor(shape, dtype); }
  xent::Tensor like(const xent::Tensor& x) { return one_in(6) ? x : mostly(x.shape(), x.dtype()); }
  xent::Tensor labels(const xent::Shape& rows, int64_t classes) {
    std::vector<int64_t> values(static_cast<size_t>(rows.elements()));
    for (int64_t& value : values) value = one_in(60) ? axis() : from(0, std::max<int64_t>(classes - 1, 0));
    return one_in(10) ? tensor() : xent::cast(xent::Tensor::from(values, rows), any<xent::DType>({xent::DType::u8, xent::DType::i32, xent::DType::i64}));
  }
};
