// Tensors of more than 2^31 elements on the emulated GPU: addresses alone until they are touched, so tests run the last
// block of each grid alone, and look at what it writes at the far end.
//
//   const AtTheEnd scope;
//   CHECK(last(scale(with_last({large}, 3), -2)) == -6);
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <xent/core/memory.h>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

constexpr int64_t large = (int64_t{1} << 31) + (int64_t{1} << 22);  // the last block has the last element

inline double value(const Tensor& x, int64_t at) { return x.reshape({x.elements()}).slice(at, at + 1).item(); }
inline double last(const Tensor& x) { return value(x, x.elements() - 1); }
inline void set(const Tensor& x, int64_t at, double number) {
  Tensor element = x.reshape({x.elements()}).slice(at, at + 1);
  element.copy_from(Tensor::full({1}, number, x.dtype()));
}
inline Tensor zeros(const Shape& shape, DType dtype = DType::f32) {  // gigabytes are zeros that nobody has written
  const bool huge = shape.elements() * static_cast<int64_t>(size_of(dtype)) >= 1 << 30;
  return huge ? Tensor::empty(shape, dtype, Device::cuda()) : Tensor::zeros(shape, dtype, Device::cuda());
}
inline Tensor with_last(const Shape& shape, double number, DType dtype = DType::f32) {
  const Tensor x = zeros(shape, dtype);
  set(x, x.elements() - 1, number);
  return x;
}
inline Tensor there(const std::vector<float>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).to(Device::cuda());
}

// Fresh memory is not filled with NaNs while it lives: that would touch all of it. Memory is given back afterwards.
struct AtTheEnd {
  bool before = poison_fresh_memory(false);
  emulator::ScheduleScope scope{{emulator::Order::last_block}};
  ~AtTheEnd() {
    poison_fresh_memory(before);
    release_cached_memory(Device::cuda());
  }
};

// Runs an op of x, and backward from an upstream of 5 at the last element, and at another one.
struct Result {
  Tensor y, dx;
};
inline Result run(const Tensor& x, const std::function<Tensor(const Tensor&)>& op, int64_t other = 0) {
  Tape tape;
  tape.watch(x);
  Result result{op(x), {}};
  if (!is_floating(result.y.dtype())) return result;
  const Tensor upstream = with_last(result.y.shape(), 5, result.y.dtype());
  set(upstream, other, 5);
  result.dx = tape.backward(result.y, {.upstream = upstream})[x];
  return result;
}
