// LossRows: one row of softmax_cross_entropy. With q the target distribution after smoothing, w the class weights, e
// the element weight, (m, log s) the row's statistics:
//
//   loss  = scale e sum_c w_c q_c (log s - (x_c - m))
//   dx_c  = k p_c - t_c,   p_c = exp(x_c - m - log s),   t_c = g w_c q_c,   k = sum_c t_c,   g: the gradient of sum_c
//   ...
//
// Per row: label, ignored?, in range?, weight, and only then the logits. An ignored row is not read; of one that weighs
// nothing only the label's logit is.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/ops/cpu/loss_targets.h>
#include <xent/ops/loss_call.h>

namespace xent::cpu {

template <class T>
class LossRows : public TargetRows {
 public:
  using W = Wide<T>;
  using Statistics = RowStatistics<W>;

  LossRows(const Call& call, const LossAttrs& attrs)
      : TargetRows(call, call.in[loss_in::logits].shape, attrs),
        logits_(call.in[loss_in::logits].as<T>()),
        addend_{call.in[loss_in::grad_addend]},
        softmax_(attrs.options.input == SoftmaxCrossEntropyOptions::Input::logits),
        kernel_(rows().inner == 1 && at_most_max(call) ? loss_kernel(dtype_of<T>) : nullptr) {}

  // With the label's logit.
  Row row(int64_t r) const {
    Row row = TargetRows::row(r);
    if (row.label >= 0) row.logit = static_cast<double>(static_cast<W>(logits_[at_label(row, r)]));
    return row;
  }

  Statistics statistics(int64_t r, Kept kept = {}) const {
    if (!softmax_) return {0, 0};
    if (groups()) return statistics_alone(logits_ + rows().start(r));
    return row_statistics(logits_ + rows().start(r), rows().classes, rows().inner, kept);
  }

  // Are rows done in groups, but for gradients in another type than the logits'?
  bool groups() const { return has_fast_grad() && rows().classes <= LossGroup::most_classes; }

  // Where the exponentials of a row may stay for grad_logits in the logits' type: where the gradient goes, or in
  // `spare`, with room for spare_room elements, if that has 16 bits or is past the caches.
  Kept place_to_keep(const Row& row, int64_t r, double upstream, T* dx, Kept spare) const {
    if (!has_fast_grad() || groups() || row.skipped || row.poisoned) return {};
    if (!std::is_same_v<T, float> || streams(logits_, dx)) return spare;
    // The logits may be gone then: so nothing may ask for them, whatever their sum is.
    constexpr int64_t most = 1 << 17;  // 512 KiB, which stay in the second-level cache
    const double share = label_share(row, upstream);
    if (!LossKernel::takes(share / static_cast<double>(2 * rows().classes))) return {};
    return {reinterpret_cast<float*>(dx + rows().start(r)), most};
  }
  const LossKernel& kernel() const { return *kernel_; }

  // What LossKernel::run takes, but for statistics, if all rows weigh the same and have this upstream.
  std::optional<LossRun> run_of(double upstream) const {
    constexpr int64_t most = std::numeric_limits<int32_t>::max();
    const bool fits = !ignore() || (*ignore() >= -most && *ignore() <= most);
    if (!groups() || !unweighted() || !fits || !LossKernel::takes(upstream) ||
        options_.parity.out_of_range != SoftmaxCrossEntropyOptions::Parity::OutOfRange::error)
      return {};
    return LossRun{.labels = target().data,
                   .label_bytes = static_cast<int>(size_of(target().dtype)),
                   .ignored = ignore() ? static_cast<uint32_t>(*ignore()) : LossGroup::skipped,
                   .scale = static_cast<float>(upstream),
                   .statistics = nullptr};
  }

  // Fills in what is known of the group of rows from `begin`, with upstream(row, r) for each. False if one of them is
  // no row for a group.
  template <class Upstream>
  bool describe(int64_t begin, int64_t count, const Upstream& upstream, LossGroup& group, Row* members) const {
    bool fits = true;
    for (int64_t i = 0; i < LossGroup::most_rows; ++i) {
      const Row row = i < count ? TargetRows::row(begin + i) : Row{.skipped = true};
      const double share = row.skipped || row.poisoned ? 0 : label_share(row, upstream(row, begin + i));
      fits = fits && !row.poisoned && LossKernel::takes(share);
      group.label[i] = row.skipped      ? LossGroup::skipped
                       : row.label >= 0 ? static_cast<uint32_t>(row.label)
                                        : LossGroup::none;
      group.scale[i] = static_cast<float>(share);
      if (i < count) members[i] = row;
    }
    return fits;
  }

  W log_prob(int64_t at, const Statistics& s) const { return (static_cast<W>(logits_[at]) - s.max) - s.log_sum; }

  // sum_c w_c q_c (log s - (x_c - m)): the row's loss without element weight and scale.
  double raw(const Row& row, int64_t r, const Statistics& s) const {
    const int64_t start = rows().start(r), inner = rows().inner;
    const auto surprise_of = [&](W x) { return static_cast<double>(s.log_sum - (x - s.max)); };
    if (!dense() && !smoothed())
      return row.label < 0 ? 0 : class_weight(row.label) * surprise_of(static_cast<W>(row.logit));
    double sum = 0;
    for (int64_t c = 0; c < rows().classes; ++c)
      if (const double q = probability(row, start, c); q != 0 || options_.parity.multiply_zeros)
        sum += class_weight(c) * q * surprise_of(static_cast<W>(logits_[start + c * inner]));
    return sum;
  }

  // Writes the gradient of a row's logits; upstream: that of raw(). grad_log_probs may be empty.
  template <class G>
  void grad_logits(const Row& row, int64_t r, const Statistics& s, double upstream, const Numbers& grad_log_probs,
                   Kept kept, G* dx) const {
    const int64_t start = rows().start(r), inner = rows().inner, classes = rows().classes;
    dx += start;
    const bool plain = !addend_ && !grad_log_probs;
    if (row.poisoned || (row.skipped && plain)) {
      const G value(row.poisoned ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
      for (int64_t c = 0; c < classes; ++c) dx[c * inner] = value;
    } else if (plain && softmax_ && !dense() && !smoothed()) {
      const double share = label_share(row, upstream);
      const auto scale = static_cast<W>(share);
      const W label_log_prob = (static_cast<W>(row.logit) - s.max) - s.log_sum;
      const T* x = logits_ + start;
      const double factor = share * std::exp(-static_cast<double>(s.log_sum));
      if (std::is_same_v<G, T> && groups() && LossKernel::takes(share)) return grad_alone(row, x, s, share, dx);
      if (std::is_same_v<G, T> && kernel_ && LossKernel::takes(factor))
        kernel_->grad(x, classes, static_cast<float>(s.max), static_cast<float>(factor), kept, streams(x, dx), dx);
      else
        for (int64_t c = 0; c < classes; ++c)
          dx[c * inner] = convert<G>(scale * std::exp((static_cast<W>(x[c * inner]) - s.max) - s.log_sum));
      // p - 1 would lose what p is short of 1 by; expm1 does not.
      if (row.label >= 0) dx[row.label * inner] = convert<G>(scale * exp_minus_1(label_log_prob));
    } else {
      grad_of_any(row, start, s, upstream, grad_log_probs, dx);
    }
  }

  // Writes the gradient of a row's distribution: upstream of raw(), and share of the denominator's gradient.
  template <class Q>
  void grad_target(const Row& row, int64_t r, const Statistics& s, double upstream, double share, Q* dq) const {
    const int64_t start = rows().start(r), inner = rows().inner;
    const bool weighted = options_.reduction.denominator == Reduction::Denominator::weight_sum;
    for (int64_t c = 0; c < rows().classes; ++c) {
      const int64_t at = start + c * inner;
      const auto surprise = -static_cast<double>(log_prob(at, s));
      const double of_mass = weighted ? kept() * row.element * class_weight(c) : 1;
      const double of_loss = row.skipped ? 0 : upstream * kept() * class_weight(c) * surprise;
      dq[at] = convert<Q>(of_loss - (share == 0 ? 0 : share * of_mass));
    }
  }

 private:
  bool has_fast_grad() const { return kernel_ && softmax_ && !addend_ && !dense() && !smoothed(); }
  int64_t at_label(const Row& row, int64_t r) const { return rows().start(r) + row.label * rows().inner; }

  // Where nothing is lost by it, exp in f64, which is faster than expm1 in f32.
  static W exp_minus_1(W x) {
    if (std::is_same_v<W, float> && x < W(-0.5)) return static_cast<W>(std::exp(static_cast<double>(x)) - 1);
    return std::expm1(x);
  }

  // One row as a group, so that it has the bits that it has in a larger one.
  Statistics statistics_alone(const T* x) const {
    LossGroup group{};
    kernel_->group(x, 1, rows().classes, false, group, nullptr);
    return {group.max[0], group.log_sum[0]};
  }
  void grad_alone(const Row& row, const T* x, const Statistics& s, double share, void* dx) const {
    LossGroup group{};
    group.label[0] = row.label >= 0 ? static_cast<uint32_t>(row.label) : LossGroup::none;
    group.scale[0] = static_cast<float>(share);
    group.max[0] = static_cast<float>(s.max);
    group.log_sum[0] = static_cast<float>(s.log_sum);
    kernel_->group(x, 1, rows().classes, true, group, dx);
  }

  // A gradient apart from the logits that the caches do not hold, until it is read, is best not read into them first.
  bool streams(const void* x, const void* dx) const {
    constexpr int64_t large = 1 << 25;
    return x != dx && rows().count() * rows().classes > large / static_cast<int64_t>(sizeof(T));
  }

  // What a row with an index multiplies p by.
  double label_share(const Row& row, double upstream) const {
    const bool exact = options_.parity.dense_grad == SoftmaxCrossEntropyOptions::Parity::DenseGrad::exact;
    return row.label >= 0 ? upstream * class_weight(row.label) : exact ? 0 : upstream;
  }

  // dx_c = k p_c - t_c with everything there may be: a distribution, smoothing, an addend, gradients of
  // log-probabilities.
  template <class G>
  void grad_of_any(const Row& row, int64_t start, const Statistics& s, double upstream, const Numbers& grad_log_probs,
                   G* dx) const {
    using DenseGrad = SoftmaxCrossEntropyOptions::Parity::DenseGrad;
    const int64_t inner = rows().inner, classes = rows().classes;
    double k = 0;
    if (softmax_ && !row.skipped)
      k = options_.parity.dense_grad == DenseGrad::exact ? upstream * mass(row, start) : upstream;
    if (softmax_ && grad_log_probs)
      for (int64_t c = 0; c < classes; ++c) k -= grad_log_probs[start + c * inner];
    const bool reads = softmax_ && (!row.skipped || grad_log_probs);
    for (int64_t c = 0; c < classes; ++c) {
      const int64_t at = start + c * inner;
      double t = 0;
      if (!row.skipped)
        if (const double q = probability(row, start, c); q != 0) t = upstream * class_weight(c) * q;
      if (grad_log_probs) t -= grad_log_probs[at];
      double gradient = -t;
      if (reads) {
        const auto log_p = static_cast<double>(log_prob(at, s));
        gradient = log_p > -0.5 ? k * std::expm1(log_p) + (k - t) : k * std::exp(log_p) - t;
      }
      if (addend_) gradient += addend_[at];
      dx[c * inner] = convert<G>(gradient + 0.0);  // -0 becomes +0
    }
  }

  // Are the logits known not to exceed the pairs' m? Not where log-probabilities stand for logits, without pairs.
  static bool at_most_max(const Call& call) {
    return call.in.size() <= loss_in::statistics || call.in[loss_in::statistics];
  }

  const T* logits_;
  Numbers addend_;
  bool softmax_;
  const LossKernel* kernel_;  // null: the row's elements are apart, or the machine has none
};

}  // namespace xent::cpu
