// The kernels of the preparation of a loss (loss_scalars.cuh): one launch over labels and weights, two where there are
// many.
//
// Labels are read once, distributions only where the denominator is the sum of their masses. All of it is in f64,
// summed per thread in the order of the rows and then in that of threads and blocks.
#pragma once

#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/loss_scalars.cuh>

namespace xent::cuda {

namespace kernels {

constexpr int preparing_threads = 512;

// What a row adds to the denominator of a mean: this lane's part of it.
template <int lanes>
__device__ double share_of(const LossPreparation& p, int64_t r, int lane, double all_weights) {
  using Denominator = Reduction::Denominator;
  const LossTarget& target = p.target;
  const TargetRow row = target.row(r);
  if (row.ignored || row.poisoned) return 0;
  const Denominator kind = p.options.reduction.denominator;
  const bool weighted = kind == Denominator::weight_sum;
  if (weighted && row.skipped) return 0;
  if (target.dense && (weighted || kind == Denominator::target_mass)) {
    const int64_t start = target.start(r);
    double mass = 0;
    for (int c = lane; c < target.classes(); c += lanes) {
      const int64_t at = start + c * target.inner.by;
      mass += weighted ? target.class_weight(c) * target.probability(row, c, at) : target.distribution[at];
    }
    return weighted ? row.element * mass : mass;
  }
  if (lane != 0) return 0;
  switch (kind) {
    case Denominator::weight_sum: return row.element * target.label_mass(row, all_weights);
    case Denominator::label_weights: return row.label < 0 ? 0 : target.class_weight(row.label);
    case Denominator::element_weights: return row.element;
    case Denominator::nonzero_weights: return row.element != 0 ? 1 : 0;
    case Denominator::target_mass: return row.label < 0 ? 0 : 1;
    default: return 0;  // rows: their number is known
  }
}

// The sum of the class weights, in every thread of the block; 0 where nobody asks.
__device__ inline double sum_class_weights(const LossTarget& target) {
  if (!target.smoothed() || target.dense) return 0;
  if (!target.class_weights) return static_cast<double>(target.classes());
  double sum = 0;
  for (int c = static_cast<int>(threadIdx.x); c < target.classes(); c += preparing_threads)
    sum += target.class_weights[c];
  return block_sum<preparing_threads>(sum);
}

__device__ inline void write_scalars(const LossPreparation& p, double shares, double all_weights) {
  const Reduction& reduction = p.options.reduction;
  const double denominator = p.denominator_at ? *p.denominator_at
                             : p.normalizer   ? p.normalizer[0]
                             : p.sums_shares  ? shares
                                              : p.denominator;
  if (p.denominator_out) *p.denominator_out = denominator;
  if (p.checks_denominator && denominator <= 0 && p.errors && p.errors->kind == ErrorRecord::Kind::none)
    *p.errors = {.kind = ErrorRecord::Kind::denominator, .op = p.op, .denominator = denominator};
  if (!p.scalars) return;
  const Division division = Division::of(p.options, denominator);
  const double upstream = p.grad_loss ? p.grad_loss[0] : 1;
  const bool used = denominator != 0 || division.by == 0;  // not where a denominator of 0 is left out
  const bool follows = p.total && p.grad_loss && used && !p.normalizer && !division.zero_grad;
  *p.scalars = {.by = division.by,
                .factor = upstream * p.options.scale / division.by,
                .all_weights = all_weights,
                .of_denominator = follows && reduction.kind == Reduction::Kind::mean
                                      ? upstream * *p.total / (division.by * division.by)
                                      : 0,
                .zero_loss = division.zero_loss,
                .zero_grad = division.zero_grad,
                .ticket = 0};
}

// One block writes what it found, several leave their sums to add_shares.
template <int lanes>
__global__ void __launch_bounds__(preparing_threads, 2) prepare_rows(LossPreparation p) {
  constexpr int rows_at_once = preparing_threads / lanes;
  const double all_weights = sum_class_weights(p.target);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * rows_at_once;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * rows_at_once;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  double shares = 0;
  bool found = false;
  if (p.sums_shares || p.checks_labels)
    for (int64_t r = begin + static_cast<int>(threadIdx.x) / lanes; r < p.target.rows(); r += stride) {
      if (p.checks_labels) found |= p.target.labels.is_bad(p.target.labels[r]);
      if (p.sums_shares) shares += share_of<lanes>(p, r, lane, all_weights);
    }
  if (lanes == 1 && p.checks_labels)  // labels have a thread per row
    report_bad_labels({p.target.labels, p.op, p.errors}, found, begin, stride);
  shares = block_sum<preparing_threads>(shares);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) write_scalars(p, shares, all_weights);
  else p.partial[blockIdx.x] = shares;
}

__global__ void __launch_bounds__(preparing_threads, 2) add_shares(LossPreparation p, int blocks) {
  const double all_weights = sum_class_weights(p.target);
  const int block = static_cast<int>(threadIdx.x);
  const double shares = block_sum<preparing_threads>(block < blocks ? p.partial[block] : 0);
  if (threadIdx.x == 0) write_scalars(p, shares, all_weights);
}

}  // namespace kernels

}  // namespace xent::cuda
