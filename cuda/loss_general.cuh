// Rows with anything there may be: a distribution, class weights under smoothing, log-probabilities in or out, an
// addend, gradients of targets and weights, classes on any axis. A row is read once for its pair and again for what
// depends on it: the loss, log-probabilities, the gradient. Also the kernel for plain rows whose elements are apart
// ([N, C, H, W]): then neighbouring threads are in neighbouring rows, and all their accesses are coalesced.
//
//   loss = e sum_c w_c q_c (log s - (x_c - m))      dx_c = k p_c - t_c,   t_c = g w_c q_c - h_c,   k = sum_c t_c
//
// with h what arrives at the log-probabilities. Every number is rounded once, on the store.
#pragma once

#include <xent/cuda/loss_sums.cuh>
#include <xent/cuda/row_groups.cuh>

namespace xent::cuda {

// What only these rows have.
struct LossExtras {
  bool softmax = true;    // are the logits no log-probabilities?
  bool plain = false;     // is the gradient that of RowGrad?
  bool from_loss = true;  // does a gradient arrive at the loss?
  bool weights_in_mass = false, element_in_denominator = false, mass_in_denominator = false;
  FloatingNumbers log_probs = {}, grad = {};
  FloatingNumbers addend = {}, grad_losses = {}, grad_log_probs = {};
  FloatingNumbers grad_target = {}, grad_element_weights = {};
  Divisor after = {}, samples = {};  // of sample_mean: row r is of sample r / after % samples
  bool by_sample = false;

  template <class F>
  void for_each_pointer(F&& f) const {
    for (const FloatingNumbers* numbers :
         {&log_probs, &grad, &addend, &grad_losses, &grad_log_probs, &grad_target, &grad_element_weights})
      f(numbers->data);
  }
};

// One row, in the hands of a group.
template <class T, class Group>
struct LossRow {
  using W = Wide<T>;
  const LossRows<T>& rows;
  const LossExtras& extras;
  const Group& group;
  int64_t r, start, inner;
  int classes;
  TargetRow told;  // by its label and weights
  RowPair<W> pair = {};

  __device__ LossRow(const LossRows<T>& all, const LossExtras& more, const Group& its_group, int64_t number)
      : rows(all),
        extras(more),
        group(its_group),
        r(number),
        start(all.target.start(number)),
        inner(all.target.inner.by),
        classes(all.target.classes()),
        told(all.target.row(number)) {}

  __device__ int64_t at(int c) const { return start + c * inner; }
  __device__ W logit(int c) const { return widened(rows.logits[at(c)]); }
  __device__ void read_pair() {
    if (extras.softmax) pair = pair_of(rows.logits + start, classes, inner, group);
  }

  // sum_c w_c q_c (log s - (x_c - m))
  __device__ double raw() const {
    const LossTarget& target = rows.target;
    if (!target.dense && !target.smoothed()) {
      const int label = static_cast<int>(told.label);
      return label < 0 ? 0 : target.class_weight(label) * static_cast<double>(pair.surprise(logit(label)));
    }
    double sum = 0;
    for (int c = group.first(); c < classes; c += Group::stride)
      if (const double q = target.probability(told, c, at(c)); q != 0 || target.multiply_zeros)
        sum += target.class_weight(c) * q * static_cast<double>(pair.surprise(logit(c)));
    return group.sum(sum);
  }

  // sum_c w_c q_c
  __device__ double mass() const {
    const LossTarget& target = rows.target;
    if (!target.dense) return target.label_mass(told, rows.scalars->all_weights);
    double sum = 0;
    for (int c = group.first(); c < classes; c += Group::stride)
      sum += target.class_weight(c) * target.probability(told, c, at(c));
    return group.sum(sum);
  }

  __device__ void store_grad(int64_t i, W value) const {
    if (extras.grad.dtype == dtype_of<T>) static_cast<T*>(extras.grad.data)[i] = narrowed<T>(value);
    else extras.grad.store(i, value);
  }

  __device__ void write_log_probs() const {
    for (int c = group.first(); c < classes; c += Group::stride) extras.log_probs.store(at(c), pair.log_prob(logit(c)));
  }

  // upstream: of raw(). The label's logit is read before others of the group may overwrite it.
  __device__ void write_grad(const TargetRow& row, double upstream) const {
    const LossTarget& target = rows.target;
    const bool reads = !row.skipped && !row.poisoned;
    if (row.poisoned || (extras.plain && !extras.grad_log_probs) ||
        (row.skipped && !extras.addend && !extras.grad_log_probs)) {
      const W label_logit = reads && row.label >= 0 ? logit(static_cast<int>(row.label)) : W(0);
      group.sync();
      const RowGrad<W> grad(target, row, pair, label_logit, upstream);
      for (int c = group.first(); c < classes; c += Group::stride)
        store_grad(at(c), grad(c == row.label, grad.filled ? W(0) : logit(c)));
      return;
    }
    double k = 0;
    if (extras.softmax && !row.skipped) k = target.exact ? upstream * mass() : upstream;
    if (extras.softmax && extras.grad_log_probs) {
      double arriving = 0;
      for (int c = group.first(); c < classes; c += Group::stride) arriving += extras.grad_log_probs[at(c)];
      k -= group.sum(arriving);
    }
    group.sync();
    const bool uses_p = extras.softmax && (!row.skipped || extras.grad_log_probs);
    for (int c = group.first(); c < classes; c += Group::stride) {
      double t = 0;
      if (!row.skipped)
        if (const double q = target.probability(row, c, at(c)); q != 0) t = upstream * target.class_weight(c) * q;
      if (extras.grad_log_probs) t -= extras.grad_log_probs[at(c)];
      double gradient = -t;
      if (uses_p) {
        const W log_p = pair.log_prob(logit(c));
        const bool near = log_p > W(-0.5);  // k (p - 1) + (k - t) keeps what p is short of 1 by
        gradient =
            near ? k * static_cast<double>(exp_minus_1(log_p)) + (k - t) : k * static_cast<double>(exp_of(log_p)) - t;
      }
      if (extras.addend) gradient += extras.addend[at(c)];
      extras.grad.store(at(c), gradient + 0.0);  // -0 becomes +0
    }
  }
};

namespace kernels {

template <class T, class Group>
__global__ void __launch_bounds__(group_threads, 2) loss_general(LossRows<T> rows, LossExtras extras) {
  XENT_SHARED(double, shared, 2 * group_threads / 32);
  const Group group(shared);
  const bool writes = extras.grad && rows.writes_grad();
  double sum = 0;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * Group::rows_per_block + group.row(); r < rows.target.rows();
       r += static_cast<int64_t>(gridDim.x) * Group::rows_per_block) {
    LossRow<T, Group> row(rows, extras, group, r);
    const bool reads = !row.told.skipped && !row.told.poisoned;
    if (reads || extras.log_probs) row.read_pair();
    if (extras.log_probs) row.write_log_probs();
    const double raw = reads ? row.raw() : 0;
    if (group.first() == 0) {
      const double value = rows.finish(r, row.told, row.pair, raw);
      sum += rows.divides_rows && !row.told.skipped ? value / rows.scalars->by : value;
    }
    if (writes) row.write_grad(rows.for_grad(row.told), rows.upstream(row.told));
  }
  finish_loss<group_threads>(rows, sum);
}

template <class T, class Group>
__global__ void __launch_bounds__(group_threads, 2) loss_general_backward(LossRows<T> rows, LossExtras extras) {
  XENT_SHARED(double, shared, 2 * group_threads / 32);
  const Group group(shared);
  const LossTarget& target = rows.target;
  const double of_denominator = rows.scalars->of_denominator;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * Group::rows_per_block + group.row(); r < target.rows();
       r += static_cast<int64_t>(gridDim.x) * Group::rows_per_block) {
    LossRow<T, Group> row(rows, extras, group, r);
    const TargetRow& told = row.told;
    if (rows.statistics) row.pair = {rows.statistics[2 * r], rows.statistics[2 * r + 1]};
    const bool contributes = !told.ignored && !told.poisoned && !rows.scalars->zero_grad;
    const double arriving =
        extras.grad_losses
            ? extras.grad_losses[extras.by_sample ? extras.samples.of(extras.after.of(r).quotient).remainder : r]
            : 1;
    const double upstream = extras.from_loss ? arriving * rows.scalars->factor : 0;
    TargetRow masked = rows.for_grad(told);
    masked.skipped = masked.skipped || !extras.from_loss;
    if (extras.grad) row.write_grad(masked, upstream * told.element);
    const bool asked = extras.grad_target || extras.grad_element_weights;
    if (!asked) continue;
    if (rows.statistics && told.skipped && contributes) row.read_pair();  // forward passed it by
    if (extras.grad_target) {
      const double share = extras.mass_in_denominator ? of_denominator : 0;
      for (int c = group.first(); c < row.classes; c += Group::stride) {
        const double weight = target.class_weight(c) * target.kept;
        const double surprise = -static_cast<double>(row.pair.log_prob(row.logit(c)));
        const double of_loss = masked.skipped ? 0 : upstream * told.element * weight * surprise;
        const double of_mass = extras.weights_in_mass ? told.element * weight : 1;
        extras.grad_target.store(row.at(c), of_loss - (share == 0 ? 0 : share * of_mass));
      }
    }
    if (extras.grad_element_weights) {
      const double share = extras.weights_in_mass ? row.mass() : extras.element_in_denominator ? 1 : 0;
      double value = contributes && extras.from_loss ? upstream * row.raw() : 0;
      if (contributes && share != 0) value -= share * of_denominator;
      if (told.poisoned) value = static_cast<double>(NAN);
      if (group.first() == 0) extras.grad_element_weights.store(r, value);
    }
  }
}

}  // namespace kernels

}  // namespace xent::cuda
