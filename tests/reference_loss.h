// The loss as its formulas stand, in f64, one plain loop after another: what all kernels are judged by, and the place
// to read what an option means. docs/softmax_cross_entropy.md derives the formulas.
//
//   const reference::Loss want = reference::loss(logits, labels, {.target = {.smoothing = 0.1}});
//   CHECK(reference::difference(softmax_cross_entropy(...), want.loss, 0x1p-23) == "");
#pragma once

#include "reference_number.h"

namespace reference {

using xent::LossInputs, xent::Reduction, xent::Shape, xent::SoftmaxCrossEntropyOptions;

struct Loss {
  Numbers loss, log_probs;
  Numbers grad_logits, grad_target, grad_element_weights;  // of what arrives: upstream, and upstream_log_probs
  Number denominator = 1;
  bool divides_by_zero = false;  // a mean over nothing, divided all the same: NaN and infinities in the gradients
};

inline Loss loss(const Tensor& logits, const Tensor& target, const SoftmaxCrossEntropyOptions& o = {},
                 const LossInputs& in = {}, const std::vector<double>& upstream = {},
                 const std::vector<double>& upstream_log_probs = {}) {
  using Kind = Reduction::Kind;
  using Denominator = Reduction::Denominator;
  using WhenZero = Reduction::WhenZero;
  using Parity = SoftmaxCrossEntropyOptions::Parity;
  const Shape& shape = logits.shape();
  const int axis = shape.resolve(o.axis);
  const auto classes = static_cast<size_t>(shape[axis]);
  const auto inner = static_cast<size_t>(shape.product(axis + 1, shape.rank()));
  const size_t rows = static_cast<size_t>(shape.product(0, axis)) * inner;
  const auto at = [&](size_t r, size_t c) { return (r / inner * classes + c) * inner + r % inner; };

  const Numbers x = numbers(logits);
  const Numbers w = in.class_weights ? numbers(in.class_weights) : Numbers(classes, 1);
  const Numbers e = in.element_weights ? numbers(in.element_weights) : Numbers(rows, 1);
  const bool multiply_zeros = o.parity.multiply_zeros;
  const auto times = [&](Number a, Number b) { return a.value == 0 && !multiply_zeros ? Number(0) : a * b; };

  // ---- the target: a distribution q0, which smoothing makes q ----
  const bool dense = is_floating(target.dtype());
  std::optional<int64_t> ignore = o.target.ignore;
  if (in.ignore) ignore = in.ignore.item<int64_t>();
  Numbers q0 = dense ? numbers(target) : Numbers(x.size());
  std::vector<bool> ignored(rows), spoilt(rows);  // spoilt: by a label out of range
  const std::vector<int64_t> labels = dense ? std::vector<int64_t>() : cast(target, DType::i64).to_vector<int64_t>();
  for (size_t r = 0; r < labels.size(); ++r) {
    const auto last = static_cast<int64_t>(classes) - 1;
    int64_t label = labels[r];
    ignored[r] = label == ignore;
    if (o.parity.out_of_range == Parity::OutOfRange::clip) label = std::clamp<int64_t>(label, 0, last);
    if (label >= 0 && label <= last) q0[at(r, static_cast<size_t>(label))] = 1;
    else spoilt[r] = !ignored[r] && o.parity.out_of_range == Parity::OutOfRange::nan_row;
  }
  const Number kept = 1 - o.target.smoothing;
  const auto smoothed_over = static_cast<double>(o.parity.smoothing_classes ? o.parity.smoothing_classes : shape[axis]);
  Numbers q = q0;
  for (Number& value : q) value = o.target.smoothing == 0 ? value : kept * value + o.target.smoothing / smoothed_over;

  // ---- log-probabilities and probabilities ----
  Numbers p(x.size()), lp = x;
  for (size_t r = 0; r < rows && o.input == SoftmaxCrossEntropyOptions::Input::logits; ++r) {
    double m = -HUGE_VAL, s = 0;
    for (size_t c = 0; c < classes; ++c) m = std::max(m, x[at(r, c)].value);
    for (size_t c = 0; c < classes; ++c) s += std::exp(x[at(r, c)].value - m);
    for (size_t c = 0; c < classes; ++c) {
      const double log_p = x[at(r, c)].value - m - std::log(s), size = std::abs(log_p) + growth(classes);
      lp[at(r, c)] = {log_p, size};
      if (std::exp(log_p) != 0) p[at(r, c)] = {std::exp(log_p), std::exp(log_p) * (1 + size)};
    }
  }

  // ---- the loss of each row: plain without its element weight, each with it ----
  Numbers plain(rows), each(rows);
  for (size_t r = 0; r < rows; ++r) {
    Sum total;
    for (size_t c = 0; c < classes && !ignored[r]; ++c)
      if (dense || q[at(r, c)].value != 0) total += times(q[at(r, c)], w[c] * lp[at(r, c)]);
    plain[r] = spoilt[r] ? Number(NAN) : -o.scale * total;
    each[r] = times(e[r], plain[r]);
  }

  // ---- what a mean divides by ----
  const bool per_sample = o.reduction.kind == Kind::sample_mean, mean = per_sample || o.reduction.kind == Kind::mean;
  const int batch_axis = per_sample ? shape.resolve(o.reduction.batch_axis) : 0;
  const Denominator kind = o.reduction.denominator;
  const auto sum_w = [&](size_t r, const Numbers& distribution) {
    Sum total;
    for (size_t c = 0; c < classes; ++c) total += w[c] * distribution[at(r, c)];
    return Number(total);
  };
  const auto share = [&](size_t r) -> Number {
    if (kind == Denominator::rows) return 1;
    if (ignored[r] || spoilt[r]) return 0;
    if (kind == Denominator::label_weights) return sum_w(r, q0);
    if (kind == Denominator::element_weights) return e[r];
    if (kind == Denominator::nonzero_weights) return e[r].value == 0 ? 0 : 1;
    if (kind == Denominator::weight_sum) return e[r] * sum_w(r, q);
    Sum total;
    for (size_t c = 0; c < classes; ++c) total += q0[at(r, c)];
    return total;
  };
  Sum shares;
  for (size_t r = 0; r < rows; ++r) shares += share(r);
  Loss out;
  if (mean) out.denominator = in.normalizer ? Number(in.normalizer.item()) : Number(shares);
  if (per_sample) out.denominator = 1;
  for (int a = 0; a < shape.rank() && per_sample; ++a)
    if (a != axis && a != batch_axis) out.denominator = out.denominator * static_cast<double>(shape[a]);

  // ---- the reduction ----
  const WhenZero when = o.reduction.when_zero;
  const bool zero = mean && out.denominator.value == 0, not_positive = mean && !(out.denominator.value > 0);
  const bool nothing = (zero && when == WhenZero::zero) || (not_positive && when == WhenZero::zero_if_not_positive);
  const bool undivided = zero && when == WhenZero::undivided;
  const Number divisor = undivided ? 1 : out.denominator;
  out.divides_by_zero = zero && when == WhenZero::ieee;
  const auto places = static_cast<size_t>(per_sample ? shape[batch_axis] : 1);
  const auto stride = static_cast<size_t>(per_sample ? shape.product(batch_axis + 1, shape.rank()) : 1);
  const auto place = [&](size_t r) { return o.reduction.kind == Kind::none ? r : at(r, 0) / stride % places; };
  std::vector<Sum> totals(o.reduction.kind == Kind::none ? rows : places);
  const bool by_row = o.parity.divide_rows && mean;
  const auto unread = [&](size_t r) { return ignored[r] || (e[r].value == 0 && !multiply_zeros); };
  for (size_t r = 0; r < rows; ++r) totals[place(r)] += by_row && !unread(r) ? each[r] / divisor : each[r];
  for (const Number total : totals) out.loss.push_back(nothing ? 0 : mean && !by_row ? total / divisor : total);

  // ---- the gradients: of each row's loss, and of the denominator, which depends on weights and target ----
  const bool follow = o.reduction.kind == Kind::mean && !in.normalizer && !undivided && !nothing;
  const bool of_weights = kind == Denominator::weight_sum || kind == Denominator::element_weights;
  out.grad_logits.resize(x.size());
  out.grad_target.resize(x.size());
  out.grad_element_weights.resize(rows);
  for (size_t r = 0; r < rows; ++r) {
    if (ignored[r] || (nothing && !multiply_zeros) || (zero && o.parity.zero_grad_when_zero)) continue;
    const Number g = upstream.empty() ? Number(1) : upstream[place(r)];
    const Number step = nothing ? 0 : mean ? g / divisor : g, factor = step * e[r] * o.scale;
    const Number slope = follow ? -step * out.loss[0] : Number(0);  // of the denominator
    const Number mass = sum_w(r, q);
    for (size_t c = 0; c < classes; ++c) {
      const size_t i = at(r, c);
      Number d = mass * p[i] - w[c] * q[i];
      if (dense && o.parity.dense_grad == Parity::DenseGrad::prob_minus_target) d = p[i] - q[i];
      if (o.input == SoftmaxCrossEntropyOptions::Input::log_probs) d = -w[c] * q[i];
      out.grad_logits[i] = spoilt[r] ? Number(NAN) : unread(r) ? Number(0) : factor * d;
      out.grad_target[i] = kept * -times(factor, w[c] * lp[i]);
      if (kind == Denominator::target_mass) out.grad_target[i] = out.grad_target[i] + slope;
      if (kind == Denominator::weight_sum) out.grad_target[i] = out.grad_target[i] + slope * e[r] * w[c] * kept;
    }
    out.grad_element_weights[r] = step * plain[r];
    if (of_weights)
      out.grad_element_weights[r] =
          out.grad_element_weights[r] + slope * (kind == Denominator::weight_sum ? mass : Number(1));
  }

  // ---- what else arrives at the logits: from the log-probabilities, and the addend ----
  for (size_t r = 0; r < rows && !upstream_log_probs.empty(); ++r) {
    Sum total;
    for (size_t c = 0; c < classes; ++c) total += upstream_log_probs[at(r, c)];
    for (size_t c = 0; c < classes; ++c)
      out.grad_logits[at(r, c)] = out.grad_logits[at(r, c)] + upstream_log_probs[at(r, c)] - p[at(r, c)] * total;
  }
  const Numbers addend = numbers(in.grad_addend);
  for (size_t i = 0; i < addend.size(); ++i) out.grad_logits[i] = out.grad_logits[i] + addend[i];
  out.log_probs = std::move(lp);
  return out;
}

}  // namespace reference
