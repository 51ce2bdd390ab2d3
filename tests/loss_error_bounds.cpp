// The error bounds of docs/softmax_cross_entropy.md against a long double reference, and how much of them is used:
// `build/dev/bin/loss_error_bounds` prints the figures of the page.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/samples.h>
#include <xent/xent.h>

using namespace xent;

namespace {

using Real = long double;

// Half the distance from 1 to the next number: a rounding errs by at most this part of its result.
Real unit(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-53L;
    case DType::f32: return 0x1p-24L;
    case DType::f16: return 0x1p-11L;
    default: return 0x1p-8L;
  }
}

Real least_normal(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-1022L;
    case DType::f16: return 0x1p-14L;
    default: return 0x1p-126L;
  }
}

// What one rounding to dtype may change.
Real rounding(DType dtype, Real value) { return unit(dtype) * std::max(std::fabs(value), least_normal(dtype)); }

// One row in long double: the loss, and p of every class.
struct Row {
  Real loss;
  std::vector<Real> log_p;

  Row(const double* x, int64_t classes, int64_t label) : log_p(static_cast<size_t>(classes)) {
    Real max = x[0], sum = 0;
    for (int64_t c = 1; c < classes; ++c) max = std::max(max, static_cast<Real>(x[c]));
    // The largest element, which is 1, is kept out of the logarithm: p near 1 has all digits.
    bool first = true;
    for (int64_t c = 0; c < classes; ++c) {
      if (x[c] == max && std::exchange(first, false)) continue;
      sum += std::exp(x[c] - max);
    }
    for (int64_t c = 0; c < classes; ++c) log_p[static_cast<size_t>(c)] = (x[c] - max) - std::log1p(sum);
    loss = -log_p[static_cast<size_t>(label)];
  }
};

struct Used {
  Real loss = 0, grad = 0;                    // the largest part of a bound
  Real loss_in_units = 0, grad_in_units = 0;  // the largest error in u, of losses relative to max(1, loss)
};

// The bounds, with T the arithmetic's type: of a row's loss, and of the gradient of class c for an upstream of 1.
Used worst_of(DType dtype, DType out, int64_t classes, double spread, double offset, uint64_t seed) {
  constexpr int64_t rows = 32;
  const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
  const Tensor logits = cast(normal_sample({rows, classes}, DType::f64, seed) * spread + offset, dtype);
  Tensor labels = label_sample({rows}, classes, DType::i64, seed + 1);
  labels.slice(0, rows / 2).copy_from(cast(argmax(cast(logits, wide), 1).slice(0, rows / 2), DType::i64));

  Tape tape;
  tape.watch(logits);
  const Tensor loss =
      softmax_cross_entropy(logits, labels, {.reduction = {.kind = Reduction::Kind::none}, .output = {.dtype = out}});
  const Tensor grad = tape.backward(loss, {.upstream = Tensor::ones({rows}, out)})[logits];
  const auto x = cast(logits, DType::f64).to_vector<double>(), got = cast(loss, DType::f64).to_vector<double>(),
             dx = cast(grad, DType::f64).to_vector<double>();
  const auto y = labels.to_vector<int64_t>();

  Used used;
  const Real u = unit(wide), sum_error = wide == DType::f64 ? static_cast<Real>(classes) : 0;
  const Real base = std::log(static_cast<Real>(classes)) + 2 + sum_error;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t label = y[static_cast<size_t>(r)];
    const Row row(x.data() + r * classes, classes, label);
    const Real l = row.loss, loss_bound = u * (base + 2 * l) + rounding(out, l);
    const Real error = std::fabs(got[static_cast<size_t>(r)] - l);
    used.loss = std::max(used.loss, error / loss_bound);
    used.loss_in_units = std::max(used.loss_in_units, error / (std::max(u, unit(out)) * std::max<Real>(1, l)));
    for (int64_t c = 0; c < classes; ++c) {
      const Real lp = row.log_p[static_cast<size_t>(c)], p = std::exp(lp);
      const Real exact = c == label ? std::expm1(lp) : p;
      const Real bound =
          u * (p * (base + 2 * std::fabs(lp)) + 4 * std::fabs(exact)) + rounding(wide, exact) + rounding(dtype, exact);
      const Real off = std::fabs(dx[static_cast<size_t>(r * classes + c)] - exact);
      used.grad = std::max(used.grad, off / bound);
      used.grad_in_units = std::max(used.grad_in_units, off / unit(dtype));
    }
  }
  return used;
}

}  // namespace

TEST_CASE("losses and gradients stay within the bounds of the page, for every type of logits and of the loss") {
  constexpr std::array<DType, 4> types = {DType::f64, DType::f32, DType::f16, DType::bf16};
  for (const DType dtype : types)
    for (const DType out : types) {
      Used worst;
      uint64_t seed = 1;
      for (const int64_t classes : {2, 3, 10, 100, 5003})
        for (const auto& [spread, offset] :
             {std::pair{1.0, 0.0}, {5.0, 0.0}, {20.0, 0.0}, {3.0, 1000.0}, {1e-3, -7.0}}) {
          const Used used = worst_of(dtype, out, classes, spread, offset, seed += 2);
          worst = {std::max(worst.loss, used.loss), std::max(worst.grad, used.grad),
                   std::max(worst.loss_in_units, used.loss_in_units),
                   std::max(worst.grad_in_units, used.grad_in_units)};
        }
      CHECK(worst.loss <= 1);
      CHECK(worst.grad <= 1);
      CHECK(worst.loss > 0.05);  // a bound that is never approached says nothing
      CHECK(worst.grad > 0.05);
      const auto digits = [](Real value) { return static_cast<double>(value); };
      MESSAGE(std::string_view(name(dtype)), " -> ", std::string_view(name(out)), ": loss ", digits(worst.loss),
              " of the bound, ", digits(worst.loss_in_units), " u; gradient ", digits(worst.grad), ", ",
              digits(worst.grad_in_units), " u");
    }
}
