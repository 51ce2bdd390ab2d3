// Chance: what random calls are made of: the usual, the empty and the absurd.
//
//   Chance chance(seed);
//   Tensor x = chance.tensor();  // any shape, dtype and values; at times an empty handle, or a view
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <xent/core/random.h>
#include <xent/ops/ops.h>

using xent::DType, xent::Shape, xent::Tensor;
using Extents = std::vector<int64_t>;

inline Shape shape_of(const Extents& extents) { return Shape(std::span<const int64_t>(extents)); }

struct Chance : xent::HostRandom {
  using HostRandom::HostRandom;

  xent::Device device = xent::Device::cpu();  // where tensors are
  bool infinite = true;                       // may they be infinite?
  bool huge = true;                           // may numbers be so large that sums of them depend on their order?

  bool one_in(uint64_t count) { return below(count) == 0; }
  int64_t from(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1)));
  }
  template <class T>
  T any(const std::vector<T>& values) {
    return values[below(values.size())];
  }

  int64_t axis() { return one_in(8) ? any<int64_t>({INT64_MIN, INT64_MAX, -9, 8}) : from(-3, 2); }
  double number() {
    if (!one_in(3)) return normal();
    const auto x = any<double>({0, -0.0, 1, -1, 3, 300, -3e9, 9.3e18, 1e-310, 1e300, -1e300, HUGE_VAL, -HUGE_VAL, NAN});
    return huge || !(std::abs(x) > 1e3) || (infinite && std::isinf(x)) ? x : 2;
  }
  DType dtype() {
    if (!one_in(4)) return any<DType>({DType::f32, DType::f64});
    return any<DType>({DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64});
  }
  Shape shape() {
    Extents extents(one_in(6) ? below(9) : below(4));
    for (int64_t& extent : extents) extent = one_in(12) ? 0 : from(1, extents.size() > 4 ? 2 : 5);
    return shape_of(extents);
  }
  Tensor tensor(const Shape& shape, DType dtype) {  // at times one that lies within another
    const int64_t margin = one_in(3) ? from(1, 5) : 0;
    std::vector<double> values(static_cast<size_t>(shape.elements() + 2 * margin));
    for (double& value : values) value = number();
    return xent::cast(Tensor::from(values, {shape.elements() + 2 * margin}), dtype).to(device).view(shape, margin);
  }
  Tensor tensor() { return one_in(25) ? Tensor() : tensor(shape(), dtype()); }
  Tensor mostly(const Shape& shape, DType dtype) { return one_in(12) ? tensor() : tensor(shape, dtype); }
  Tensor like(const Tensor& x) { return one_in(6) ? x : mostly(x.shape(), x.dtype()); }
  Tensor labels(const Shape& rows, int64_t classes) {
    std::vector<int64_t> values(static_cast<size_t>(rows.elements()));
    for (int64_t& value : values) value = one_in(60) ? axis() : from(0, std::max<int64_t>(classes - 1, 0));
    return one_in(10)
               ? tensor()
               : xent::cast(Tensor::from(values, rows), any<DType>({DType::u8, DType::i32, DType::i64})).to(device);
  }
};
