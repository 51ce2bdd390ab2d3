// The loss as its formulas stand, in f64, one plain loop after another: what all kernels are judged by, and the place
// to read what an option means. docs/softmax_cross_entropy.md derives the formulas.
//
//   const reference::Loss want = reference::loss(logits, labels, {.target = {.smoothing = 0.1}});
//   CHECK(reference::difference(softmax_cross_entropy(...), want.loss, 0x1p-23) == "");
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/ops/ops.h>

namespace reference {

using xent::DType, xent::LossInputs, xent::Reduction, xent::Shape, xent::SoftmaxCrossEntropyOptions, xent::Tensor;

// A number and its size, which is the same formula with every term taken absolutely: eps * size is what one rounding of
// everything costs. A sum of n terms that are not 0 counts growth(n) times.
struct Number {
  double value = 0, size = 0;

  Number(double v = 0) : value(v), size(std::abs(v)) {}
  Number(double v, double s) : value(v), size(s) {}
};
inline Number operator+(Number a, Number b) { return {a.value + b.value, a.size + b.size}; }
inline Number operator-(Number a, Number b) { return {a.value - b.value, a.size + b.size}; }
inline Number operator*(Number a, Number b) { return {a.value * b.value, a.size * b.size}; }
inline Number operator/(Number a, Number b) {
  const double size = std::abs(b.value);
  return {a.value / b.value, a.size / size * std::max(1.0, b.size / size)};
}

inline double growth(int64_t terms) { return std::max(1.0, std::sqrt(static_cast<double>(terms)) / 4); }

struct Sum {
  Number total = {};
  int64_t terms = 0;

  void add(Number x) {
    total = total + x;
    terms += x.value != 0;
  }
  operator Number() const { return {total.value, total.size * growth(terms)}; }
};

using Numbers = std::vector<Number>;

struct Loss {
  Numbers loss, log_probs;
  Numbers grad_logits, grad_target, grad_element_weights;  // for `upstream` at the loss and `upstream_log_probs` there
  Number denominator = 1;
  bool divides_by_zero = false;  // a mean over nothing, divided all the same: rows bring NaN or infinities
};

inline Numbers numbers(const Tensor& x) {
  if (!x) return {};
  const std::vector<double> values = xent::cast(x, DType::f64).to_vector<double>();
  return Numbers(values.begin(), values.end());
}

inline Loss loss(const Tensor& logits, const Tensor& target, const SoftmaxCrossEntropyOptions& o = {},
                 const LossInputs& in = {}, const std::vector<double>& upstream = {},
                 const std::vector<double>& upstream_log_probs = {}) {
  using Kind = Reduction::Kind;
  using Denominator = Reduction::Denominator;
  using WhenZero = Reduction::WhenZero;
  using OutOfRange = SoftmaxCrossEntropyOptions::Parity::OutOfRange;
  const int axis = logits.shape().resolve(o.axis);
  const int64_t classes = logits.shape()[axis], inner = logits.shape().product(axis + 1, logits.rank());
  const int64_t rows = logits.elements() / std::max<int64_t>(classes, 1);
  const auto at = [&](int64_t r, int64_t c) {
    return static_cast<size_t>((r / inner * classes + c) * inner + r % inner);
  };
  const auto row = [](int64_t r) { return static_cast<size_t>(r); };

  const Numbers x = numbers(logits), w = numbers(in.class_weights), e = numbers(in.element_weights);
  const auto weight = [&](int64_t c) { return w.empty() ? Number(1) : w[row(c)]; };
  const auto element = [&](int64_t r) { return e.empty() ? Number(1) : e[row(r)]; };
  // A weight or probability of 0 takes part in nothing, whatever it multiplies.
  const auto times = [&](Number a, Number b) { return a.value == 0 && !o.parity.multiply_zeros ? Number(0) : a * b; };

  // The target: a distribution q0, which smoothing makes q. Rows with the label to ignore are out.
  const bool dense = is_floating(target.dtype());
  std::optional<int64_t> ignore = o.target.ignore;
  if (in.ignore) ignore = in.ignore.item<int64_t>();
  Numbers q0 = dense ? numbers(target) : Numbers(x.size());
  std::vector<bool> ignored(row(rows)), spoilt(row(rows));
  if (!dense) {
    const std::vector<int64_t> labels = xent::cast(target, DType::i64).to_vector<int64_t>();
    for (int64_t r = 0; r < rows; ++r) {
      int64_t label = labels[row(r)];
      ignored[row(r)] = label == ignore;
      if (o.parity.out_of_range == OutOfRange::clip) label = std::clamp<int64_t>(label, 0, classes - 1);
      const bool in_range = label >= 0 && label < classes;
      spoilt[row(r)] = !in_range && !ignored[row(r)] && o.parity.out_of_range == OutOfRange::nan_row;
      if (in_range) q0[at(r, label)] = 1;
    }
  }
  const double smoothing = o.target.smoothing;
  const auto smoothed_over = static_cast<double>(o.parity.smoothing_classes ? o.parity.smoothing_classes : classes);
  Numbers q = q0;
  if (smoothing != 0)
    for (Number& value : q) value = Number(1 - smoothing) * value + Number(smoothing / smoothed_over);

  // Log-probabilities and probabilities.
  Loss out;
  out.log_probs.resize(x.size());
  Numbers p(x.size());
  for (int64_t r = 0; r < rows; ++r) {
    double m = -HUGE_VAL, s = 0;
    for (int64_t c = 0; c < classes; ++c) m = std::max(m, x[at(r, c)].value);
    for (int64_t c = 0; c < classes; ++c) s += std::exp(x[at(r, c)].value - m);
    for (int64_t c = 0; c < classes; ++c) {
      const double lp = x[at(r, c)].value - m - std::log(s), prob = std::exp(lp);
      const double error = std::abs(lp) + growth(classes);
      out.log_probs[at(r, c)] = {lp, error};
      p[at(r, c)] = prob == 0 ? Number(0) : Number(prob, prob * (1 + error));
    }
  }
  if (o.input == SoftmaxCrossEntropyOptions::Input::log_probs) out.log_probs = x;

  // The loss of each row: plain without its element weight, each with it.
  Numbers plain(row(rows)), each(row(rows));
  for (int64_t r = 0; r < rows; ++r) {
    if (ignored[row(r)]) continue;
    Sum total;
    for (int64_t c = 0; c < classes; ++c) {
      // A class that a label does not name is not looked at, also where zeros are multiplied.
      if (!dense && q[at(r, c)].value == 0) continue;
      total.add(times(q[at(r, c)], weight(c) * out.log_probs[at(r, c)]));
    }
    plain[row(r)] = spoilt[row(r)] ? Number(NAN) : Number(-o.scale) * total;
    each[row(r)] = times(element(r), plain[row(r)]);
  }

  // What a mean divides by, and its derivatives by an element weight and by an element of the target.
  const Denominator kind = o.reduction.denominator;
  const auto sum_wq = [&](int64_t r, const Numbers& distribution) {
    Sum total;
    for (int64_t c = 0; c < classes; ++c) total.add(weight(c) * distribution[at(r, c)]);
    return Number(total);
  };
  const auto mass = [&](int64_t r) {
    Sum total;
    for (int64_t c = 0; c < classes; ++c) total.add(q0[at(r, c)]);
    return Number(total);
  };
  const auto contribution = [&](int64_t r) -> Number {
    if (kind == Denominator::rows) return 1;
    if (ignored[row(r)] || spoilt[row(r)]) return 0;
    if (kind == Denominator::label_weights) return sum_wq(r, q0);
    if (kind == Denominator::element_weights) return element(r);
    if (kind == Denominator::nonzero_weights) return element(r).value != 0 ? 1 : 0;
    return kind == Denominator::target_mass ? mass(r) : element(r) * sum_wq(r, q);
  };
  const bool own = o.reduction.kind == Kind::mean && !in.normalizer;
  const bool sample_mean = o.reduction.kind == Kind::sample_mean, mean = sample_mean || o.reduction.kind == Kind::mean;
  const int batch_axis = sample_mean ? logits.shape().resolve(o.reduction.batch_axis) : 0;
  const int64_t samples = sample_mean ? logits.shape()[batch_axis] : 1;
  Sum parts;
  for (int64_t r = 0; r < rows; ++r) parts.add(contribution(r));
  if (mean) out.denominator = own ? Number(parts) : in.normalizer ? Number(in.normalizer.item()) : Number(1);
  for (int a = 0; a < logits.rank() && sample_mean; ++a)
    if (a != axis && a != batch_axis)
      out.denominator = out.denominator * Number(static_cast<double>(logits.shape()[a]));

  // The reduction.
  Number divisor = out.denominator;
  const bool zero = mean && divisor.value == 0, not_positive = mean && !(divisor.value > 0);
  const WhenZero when = o.reduction.when_zero;
  const bool nothing = (zero && when == WhenZero::zero) || (not_positive && when == WhenZero::zero_if_not_positive);
  const bool undivided = zero && when == WhenZero::undivided;
  if (undivided) divisor = 1;
  out.divides_by_zero = zero && when == WhenZero::ieee;
  const auto place = [&](int64_t r) {  // of a row in the result
    if (o.reduction.kind == Kind::none) return row(r);
    const auto stride = static_cast<size_t>(sample_mean ? logits.shape().product(batch_axis + 1, logits.rank()) : 1);
    return at(r, 0) / stride % static_cast<size_t>(samples);
  };
  std::vector<Sum> totals(o.reduction.kind == Kind::none ? row(rows) : row(samples));
  for (int64_t r = 0; r < rows; ++r) {
    const bool by_row = o.parity.divide_rows && mean && !ignored[row(r)];
    totals[place(r)].add(by_row ? each[row(r)] / divisor : each[row(r)]);
  }
  for (const Sum& total : totals) {
    const bool divide = mean && !o.parity.divide_rows;
    out.loss.push_back(nothing ? Number(0) : divide ? Number(total) / divisor : Number(total));
  }

  // The gradients: of a row's loss with the factor g / d, then what the denominator of a mean brings.
  const bool no_gradient = nothing || (zero && o.parity.zero_grad_when_zero);
  const bool follow = own && !nothing && !undivided;  // d depends on the target and the element weights
  out.grad_logits.resize(x.size());
  out.grad_target.resize(x.size());
  out.grad_element_weights.resize(row(rows));
  for (int64_t r = 0; r < rows; ++r) {
    const bool unread = element(r).value == 0 && !o.parity.multiply_zeros;
    if (ignored[row(r)] || no_gradient) continue;
    const Number g = upstream.empty() ? Number(1) : Number(upstream[place(r)]);
    const Number step = mean ? g / divisor : g;
    const Number factor = element(r) * step * Number(o.scale);
    const Number total = sum_wq(r, q), slope = follow ? Number(0) - step * out.loss[0] : Number(0);
    const bool assume_one = o.parity.dense_grad == SoftmaxCrossEntropyOptions::Parity::DenseGrad::prob_minus_target;
    for (int64_t c = 0; c < classes; ++c) {
      const size_t i = at(r, c);
      Number d = total * p[i] - weight(c) * q[i];
      if (dense && assume_one) d = p[i] - q[i];
      if (o.input == SoftmaxCrossEntropyOptions::Input::log_probs) d = Number(0) - weight(c) * q[i];
      out.grad_logits[i] = spoilt[row(r)] ? Number(NAN) : unread ? Number(0) : factor * d;
      const Number keep(1 - smoothing);
      out.grad_target[i] = times(keep, Number(0) - times(factor, weight(c) * out.log_probs[i]));
      if (kind == Denominator::target_mass) out.grad_target[i] = out.grad_target[i] + slope;
      if (kind == Denominator::weight_sum)
        out.grad_target[i] = out.grad_target[i] + slope * element(r) * weight(c) * keep;
    }
    out.grad_element_weights[row(r)] = step * plain[row(r)];
    if (kind == Denominator::weight_sum || kind == Denominator::element_weights)
      out.grad_element_weights[row(r)] =
          out.grad_element_weights[row(r)] + slope * (kind == Denominator::weight_sum ? total : Number(1));
  }

  // What else arrives at the logits: from the log-probabilities, and the addend.
  if (!upstream_log_probs.empty())
    for (int64_t r = 0; r < rows; ++r) {
      Sum total;
      for (int64_t c = 0; c < classes; ++c) total.add(upstream_log_probs[at(r, c)]);
      for (int64_t c = 0; c < classes; ++c)
        out.grad_logits[at(r, c)] =
            out.grad_logits[at(r, c)] + Number(upstream_log_probs[at(r, c)]) - p[at(r, c)] * total;
    }
  const Numbers addend = numbers(in.grad_addend);
  for (size_t i = 0; i < addend.size(); ++i) out.grad_logits[i] = out.grad_logits[i] + addend[i];
  return out;
}

// Compares a tensor with numbers computed with 3 eps of their size and then rounded once to its type: an element lies
// between what the two ends of that interval round to. Returns what is wrong with the first that does not, or nothing.
inline std::string difference(const Tensor& got, const Numbers& want, double eps) {
  if (got.elements() != static_cast<int64_t>(want.size())) return "has shape " + got.shape().str();
  return xent::dispatch(got.dtype(), [&]<class T>() -> std::string {
    const std::vector<T> values = got.to_vector<T>();
    const auto rounded = [](double value) { return xent::convert<double>(xent::convert<T>(value)); };
    for (size_t i = 0; i < want.size(); ++i) {
      const double value = xent::convert<double>(values[i]), exact = want[i].value;
      const double error = std::isfinite(exact) ? 3 * (eps * want[i].size + 1e-37) : 0;
      if (std::isnan(exact) ? std::isnan(value) : value >= rounded(exact - error) && value <= rounded(exact + error))
        continue;
      return "element " + std::to_string(i) + " is " + std::to_string(value) + " instead of " + std::to_string(exact) +
             " with an error of " + std::to_string(error / eps) + " eps";
    }
    return "";
  });
}

// The eps of the arithmetic for a type of logits. An f64 reference is itself as far from the truth as an f64 kernel.
inline double eps_of(DType logits) { return logits == DType::f64 ? 0x1p-51 : 0x1p-23; }

}  // namespace reference
