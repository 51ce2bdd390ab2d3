// Random calls of every op. Whatever it is given, an op returns a tensor of the shape that is written here a second time,
// or throws an xent::Error that names it, and writes nothing but what it updates. Then random graphs and random Steps.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "data_files.h"
#include "replay_mode.h"

using namespace xent;

namespace {

using Bytes = std::vector<uint8_t>;
using Extents = std::vector<int64_t>;
using Expected = std::optional<Shape>;  // none: an Error

constexpr double infinity = std::numeric_limits<double>::infinity();

// What calls are made of: the usual, the empty and the absurd.
struct Chance : HostRandom {
  using HostRandom::HostRandom;

  bool one_in(uint64_t count) { return below(count) == 0; }
  int64_t from(int64_t low, int64_t high) { return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low + 1))); }
  template <class T>
  T any(const std::vector<T>& values) { return values[below(values.size())]; }

  double number() {
    if (!one_in(3)) return normal();
    return any<double>({0, -0.0, 1, -1, 3, 300, -3e9, 9.3e18, 1e-310, 1e300, -1e300, infinity, -infinity, NAN});
  }
  int64_t axis() { return one_in(8) ? any<int64_t>({INT64_MIN, INT64_MAX, -9, 8}) : from(-3, 2); }
  DType dtype() {
    if (!one_in(4)) return one_in(3) ? DType::f64 : DType::f32;
    return any<DType>({DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64});
  }
  Shape shape() {
    Extents extents(one_in(6) ? below(9) : below(4));
    for (int64_t& extent : extents) extent = one_in(12) ? 0 : from(1, extents.size() > 4 ? 2 : 5);
    return Shape(std::span<const int64_t>(extents));
  }
  Tensor tensor(const Shape& shape, DType dtype) {
    const int64_t margin = one_in(3) ? from(0, 5) : 0;  // a view into the middle of something larger
    return dispatch_values(dtype, shape.elements() + 2 * margin).view(shape, margin);
  }
  Tensor tensor() { return one_in(25) ? Tensor() : tensor(shape(), dtype()); }
  Tensor like(const Tensor& x) { return one_in(12) ? tensor() : one_in(6) ? x : tensor(x.shape(), x.dtype()); }
  Tensor labels(const Shape& rows, int64_t classes) {
    if (one_in(10)) return tensor();
    std::vector<int64_t> values(static_cast<size_t>(rows.elements()));
    for (int64_t& value : values) value = one_in(60) ? axis() : from(0, std::max<int64_t>(classes - 1, 0));
    return cast(Tensor::from(values, rows), any<DType>({DType::u8, DType::i32, DType::i64}));
  }

 private:
  Tensor dispatch_values(DType dtype, int64_t count) {
    std::vector<double> values(static_cast<size_t>(count));
    for (double& value : values) value = number();
    return cast(Tensor::from(values, {count}), dtype);
  }
};

Bytes bytes_of(const Tensor& x) {
  if (!x) return {};
  const auto* data = static_cast<const uint8_t*>(x.raw());
  return Bytes(data, data + x.bytes());
}

bool same(const Tensor& a, const Tensor& b) { return a.shape() == b.shape() && bytes_of(a) == bytes_of(b); }

// No op makes a NaN of nothing but ones, which is what fresh memory holds.
bool is_written(const Tensor& x) {
  const Bytes bytes = bytes_of(x);
  const auto size = static_cast<std::ptrdiff_t>(size_of(x.dtype()));
  for (auto at = bytes.begin(); is_floating(x.dtype()) && at != bytes.end(); at += size)
    if (std::all_of(at, at + size, [](uint8_t byte) { return byte == 0xFF; })) return false;
  return true;
}

// ---- the rules, once more ----

bool computes(const Tensor& x) { return x && (x.dtype() == DType::f32 || x.dtype() == DType::f64); }
bool counts(const Tensor& x) { return x && !is_floating(x.dtype()); }
bool is(const Tensor& x, DType dtype, const Shape& shape) { return x && x.dtype() == dtype && x.shape() == shape; }
bool alike(const Tensor& x, const Tensor& y) { return y && is(x, y.dtype(), y.shape()); }
Expected when(bool valid, const Shape& shape) { return valid ? Expected(shape) : std::nullopt; }

std::optional<size_t> resolved(const Tensor& x, int64_t axis) {
  if (!x || axis < -x.rank() || axis >= x.rank()) return {};
  return static_cast<size_t>(axis < 0 ? axis + x.rank() : axis);
}

Shape reduced(const Shape& x, const std::vector<size_t>& axes, bool keep) {
  Extents extents;
  for (size_t axis = 0; axis < static_cast<size_t>(x.rank()); ++axis) {
    const bool kept = std::ranges::find(axes, axis) == axes.end();
    if (kept || keep) extents.push_back(kept ? x.begin()[axis] : 1);
  }
  return Shape(std::span<const int64_t>(extents));
}

Expected stretched(const Shape& a, const Shape& b) {
  Extents extents(static_cast<size_t>(std::max(a.rank(), b.rank())));
  for (int64_t i = 1; i <= static_cast<int64_t>(extents.size()); ++i) {
    const int64_t x = i <= a.rank() ? a[-i] : 1, y = i <= b.rank() ? b[-i] : 1;
    if (x != y && x != 1 && y != 1) return {};
    extents[extents.size() - static_cast<size_t>(i)] = x == 1 ? y : x;
  }
  return Shape(std::span<const int64_t>(extents));
}

bool in_range(const Tensor& labels, int64_t classes, std::optional<int64_t> ignore = {}) {
  return std::ranges::all_of(cast(labels, DType::i64).to_vector<int64_t>(),
                             [&](int64_t label) { return (label >= 0 && label < classes) || label == ignore; });
}

// ---- attempts ----

struct Attempt {
  const char* op;
  std::vector<Tensor> inputs;
  Expected expected;
  std::function<Tensor()> call;
  Mask updates = nothing;
  Mask watched = everything;
};

Attempt elementwise(Chance& chance) {
  constexpr std::pair<const char*, Tensor (*)(const Tensor&)> functions[] = {
      {"relu", relu}, {"tanh", tanh}, {"sigmoid", sigmoid}, {"gelu", gelu}, {"exp", exp}, {"log", log}};
  const Tensor x = chance.tensor();
  const double number = chance.number();
  const size_t which = chance.below(8);
  if (which == 6) return {"scale", {x}, when(computes(x), x.shape()), [=] { return scale(x, number); }};
  if (which == 7) return {"shift", {x}, when(computes(x), x.shape()), [=] { return shift(x, number); }};
  return {functions[which].first, {x}, when(computes(x), x.shape()), [=] { return functions[which].second(x); }};
}

Attempt binary(Chance& chance) {
  constexpr std::pair<const char*, Tensor (*)(const Tensor&, const Tensor&)> functions[] = {
      {"add", add}, {"sub", sub}, {"mul", mul}, {"div", div}};
  Tensor a = chance.tensor(), b = chance.like(a);
  if (a && chance.one_in(2)) {  // leave axes of b out, or make them 1
    Extents extents(a.shape().begin() + chance.from(0, a.rank()), a.shape().end());
    for (int64_t& extent : extents) extent = chance.one_in(3) ? 1 : extent;
    b = chance.tensor(Shape(std::span<const int64_t>(extents)), a.dtype());
  }
  if (chance.one_in(2)) std::swap(a, b);
  const auto [name, f] = functions[chance.below(4)];
  const bool valid = computes(a) && computes(b) && a.dtype() == b.dtype();
  return {name, {a, b}, valid ? stretched(a.shape(), b.shape()) : std::nullopt, [a, b, f = f] { return f(a, b); }};
}

Attempt product(Chance& chance) {
  const DType dtype = chance.dtype();
  const int64_t m = chance.from(0, 3), k = chance.from(0, 3), n = chance.from(0, 3);
  const auto matrix = [&](int64_t r, int64_t c) { return chance.one_in(12) ? chance.tensor() : chance.tensor({r, c}, dtype); };
  if (chance.one_in(2)) {
    const MatmulOptions options{chance.one_in(2), chance.one_in(2)};
    const Tensor a = options.transpose_a ? matrix(k, m) : matrix(m, k), b = options.transpose_b ? matrix(n, k) : matrix(k, n);
    bool valid = computes(a) && computes(b) && a.dtype() == b.dtype() && a.rank() == 2 && b.rank() == 2;
    valid = valid && a.shape()[options.transpose_a ? 0 : 1] == b.shape()[options.transpose_b ? 1 : 0];
    const Shape shape = valid ? Shape{a.shape()[options.transpose_a ? 1 : 0], b.shape()[options.transpose_b ? 0 : 1]} : Shape{};
    return {"matmul", {a, b}, when(valid, shape), [=] { return matmul(a, b, options); }};
  }
  const Tensor x = chance.one_in(3) ? chance.tensor({2, m, k}, dtype) : matrix(m, k), weight = matrix(k, n);
  const Tensor bias = chance.one_in(2) ? Tensor() : chance.one_in(9) ? chance.tensor() : chance.tensor({n}, dtype);
  const auto activation = chance.any<Activation>({Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid});
  bool valid = computes(x) && alike(weight, weight) && weight.dtype() == x.dtype() && x.rank() >= 1 && weight.rank() == 2;
  valid = valid && x.shape()[-1] == weight.shape()[0] && (!bias || is(bias, x.dtype(), {weight.shape()[1]}));
  Extents extents(x.shape().begin(), x.shape().end());
  if (valid) extents.back() = weight.shape()[1];
  return {"linear", {x, weight, bias}, when(valid, Shape(std::span<const int64_t>(extents))),
          [=] { return linear(x, weight, bias, activation); }};
}

Attempt along_axis(Chance& chance) {
  const Tensor x = chance.tensor();
  const int64_t a = chance.axis(), b = chance.axis();
  const auto axis = resolved(x, a), other = resolved(x, b);
  const bool valid = computes(x) && axis;
  const bool keep = chance.one_in(2);
  switch (chance.below(5)) {
    case 0: return {"softmax", {x}, when(valid, x.shape()), [=] { return softmax(x, a); }};
    case 1: return {"log_softmax", {x}, when(valid, x.shape()), [=] { return log_softmax(x, a); }};
    case 2: {
      const bool some = valid && x.shape()[a] > 0;
      return {"argmax", {x}, some ? Expected(reduced(x.shape(), {*axis}, false)) : std::nullopt, [=] { return argmax(x, a); }};
    }
    default: break;
  }
  const uint64_t count = chance.below(3);
  const auto f = chance.any<Tensor (*)(const Tensor&, std::initializer_list<int64_t>, bool)>({sum, mean});
  Expected expected;
  if (count == 0 && computes(x)) expected = reduced(x.shape(), {0, 1, 2, 3, 4, 5, 6, 7}, keep);
  if (count == 1 && valid) expected = reduced(x.shape(), {*axis}, keep);
  if (count == 2 && valid && other && *axis != *other) expected = reduced(x.shape(), {*axis, *other}, keep);
  return {f == &sum ? "sum" : "mean", {x}, expected, [=] { return count == 0 ? f(x, {}, keep) : count == 1 ? f(x, {a}, keep) : f(x, {a, b}, keep); }};
}

Attempt view(Chance& chance) {
  const Tensor x = chance.tensor();
  const int64_t a = chance.axis(), b = chance.axis(), n = x.elements();
  const Shape shape = chance.any<Shape>({{n}, {1, n}, {n, 1, 1}, {-(-n / 2), 2}, chance.shape()});
  const DType dtype = chance.any<DType>({DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64});
  const auto axis = resolved(x, a);
  Extents extents(x.shape().begin(), x.shape().end());
  switch (chance.below(5)) {
    case 0: return {"reshape", {x}, when(x && n == shape.elements(), shape), [=] { return reshape(x, shape); }};
    case 1:
      if (axis) extents.resize(*axis);
      extents.push_back(axis ? x.shape().product(static_cast<int>(*axis), x.rank()) : 0);
      return {"flatten", {x}, axis ? Expected(Shape(std::span<const int64_t>(extents))) : std::nullopt, [=] { return flatten(x, a); }};
    case 2: {
      const bool valid = x && x.rank() > 0 && 0 <= a && a <= b && b <= x.shape()[0];
      if (valid) extents[0] = b - a;
      return {"slice_rows", {x}, when(valid, Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(x.rank())))), [=] { return slice_rows(x, a, b); }};
    }
    case 3: return {"cast", {x}, when(!!x, x.shape()), [=] { return cast(x, dtype); }};
    default: return {"copy", {x}, when(!!x, x.shape()), [=] { return x.clone(); }};
  }
}
