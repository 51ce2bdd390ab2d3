// Rows of up to 1024 classes: a warp per row, whose logits stay in registers, per_lane of them in each. They are read
// once, and the gradient is written from the registers.
//
// The loads of a warp are next to each other and need no alignment. All that steers the control flow is the same in
// the whole warp: a row is skipped by all of its lanes or by none.
#pragma once

#include <xent/cuda/loss_sums.cuh>

namespace xent::cuda {

constexpr int warp_threads = 128;  // four rows

namespace kernels {

template <class T, int per_lane, bool smoothed>
__global__ void __launch_bounds__(warp_threads, sizeof(T) == 8 ? 2 : 4) loss_of_warps(LossRows<T> rows) {
  using W = Wide<T>;
  constexpr int warps = warp_threads / 32;
  const int classes = rows.target.classes(), lane = static_cast<int>(threadIdx.x) % 32;
  const bool writes = rows.writes_grad();
  double sum = 0;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32;
       r < rows.target.rows(); r += static_cast<int64_t>(gridDim.x) * warps) {
    const TargetRow row = rows.target.row(r);
    const int label = static_cast<int>(row.label);
    const T* const from = rows.logits + r * classes;
    RowPair<W> pair;
    W x[per_lane], label_logit = 0;
    double raw = 0;
    if (!row.skipped && !row.poisoned) {
#pragma unroll
      for (int k = 0; k < per_lane; ++k) {
        const int c = lane + 32 * k;
        x[k] = c < classes ? widened(from[c]) : static_cast<W>(-INFINITY);
      }
      if (label >= 0) label_logit = widened(from[label]);
      RowSum<W> exponentials;
      exponentials.add(x);
      exponentials = merged<32>(exponentials);
      pair = {exponentials.max, exponentials.log_sum()};
      W others = 0;
      if constexpr (smoothed) {
#pragma unroll
        for (int k = 0; k < per_lane; ++k)
          if (const int c = lane + 32 * k; c < classes && c != label) others += pair.surprise(x[k]);
      }
      raw = rows.raw(row, pair, label_logit, smoothed ? warp_sum(static_cast<double>(others)) : 0);
    }
    if (lane == 0) sum += rows.finish(r, row, pair, raw);
    if (!writes) continue;
    __syncwarp();  // every lane has read the label's logit, which may be overwritten now
    const RowGrad<W> grad(rows.target, rows.for_grad(row), pair, label_logit, rows.upstream(row));
    T* const to = rows.grad + r * classes;
#pragma unroll
    for (int k = 0; k < per_lane; ++k)
      if (const int c = lane + 32 * k; c < classes) to[c] = narrowed<T>(grad(c == label, x[k]));
  }
  finish_loss<warp_threads>(rows, sum);
}

}  // namespace kernels

}  // namespace xent::cuda
