// Rows of many classes that begin at multiples of 16 bytes: a block per row, which stays in registers, 8 x 16 bytes in
// every thread. All loads are on their way before the first is used; the logits are read once and the gradient is
// written from the registers. A block has 256, 512 or 1024 threads, whichever a row needs.
//
// One barrier per row: the warps' sums go to one of two places in turn, and every warp adds them all up. Smoothing
// takes two more, for the sum of all surprises.
#pragma once

#include <xent/cuda/loss_sums.cuh>
#include <xent/cuda/loss_words.cuh>

namespace xent::cuda {

constexpr int register_packs = 8;

namespace kernels {

template <class T, int threads, bool smoothed>
__global__ void __launch_bounds__(threads, 1024 / threads) loss_in_registers(LossRows<T> rows) {
  using W = Wide<T>;
  constexpr int size = LogitWords::count<T>, warps = threads / 32;
  XENT_SHARED(W, of_warp_max, 2 * warps);
  XENT_SHARED(W, of_warp_rest, 2 * warps);
  const int classes = rows.target.classes(), thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32, warp = thread / 32;
  const bool writes = rows.writes_grad();
  XENT_SHARED(double, sum, 1);  // in a register it would be one in every thread
  if (thread == 0) sum[0] = 0;
  int turn = 0;
  for (int i = 0;; ++i) {
    const int64_t r = blockIdx.x + static_cast<int64_t>(i) * gridDim.x;
    if (r >= rows.target.rows()) break;
    const TargetRow told = rows.target.row(r);
    const int label = static_cast<int>(told.label);
    const T* const from = rows.logits + r * classes;
    LogitWords x[register_packs];
    RowPair<W> pair;
    W label_logit = 0;
    const bool reads = !told.skipped && !told.poisoned;
    if (reads) {
#pragma unroll
      for (int j = 0; j < register_packs; ++j) {
        const int c = (thread + j * threads) * size;
        if (c < classes) x[j] = *reinterpret_cast<const LogitWords*>(from + c);
        else x[j].fill<T>(static_cast<W>(-INFINITY));
      }
      if (label >= 0) label_logit = widened(from[label]);
      RowSum<W> exponentials;
#pragma unroll
      for (int j = 0; j < register_packs; ++j) {
        W values[size];
#pragma unroll
        for (int k = 0; k < size; ++k) values[k] = x[j].template get<T>(k);
        exponentials.add(values);
      }
      exponentials = merged<32>(exponentials);
      if (lane == 0) {
        of_warp_max[turn + warp] = exponentials.max;
        of_warp_rest[turn + warp] = exponentials.rest;
      }
      __syncthreads();  // and the label's logit, which may be overwritten, has been read
      exponentials = {};
      if (lane < warps) exponentials = {of_warp_max[turn + lane], of_warp_rest[turn + lane]};
      exponentials = merged<32>(exponentials);
      pair = {exponentials.max, exponentials.log_sum()};
      turn ^= warps;
    }
    W surprises = 0;                           // of the other classes
    const TargetRow row = rows.target.row(r);  // looked up anew: registers are scarce while the logits come in
    if (writes || (smoothed && reads)) {
      const RowGrad<W> grad(rows.target, rows.for_grad(row), pair, label_logit, rows.upstream(row));
      T* const to = writes ? rows.grad + r * classes : nullptr;
#pragma unroll
      for (int j = 0; j < register_packs; ++j) {
        const int c = (thread + j * threads) * size;
        if (c >= classes) continue;
        LogitWords dx = {};
        if (grad.filled) dx.fill<T>(grad.at_label);
#pragma unroll
        for (int k = 0; k < size; ++k) {
          if (!reads) continue;
          const W value = x[j].template get<T>(k);
          if (smoothed && c + k != label) surprises += pair.surprise(value);
          if (!grad.filled) dx.template set<T>(k, grad.of_other(value));
        }
        if (writes) stream(reinterpret_cast<LogitWords*>(to + c), dx);
      }
      // By the thread that has just stored the label's 16 bytes.
      if (writes && !grad.filled && label >= 0 && thread == label / size % threads)
        to[label] = narrowed<T>(grad.at_label);
    }
    double others = 0;
    if (smoothed && reads) others = block_sum<threads>(static_cast<double>(surprises));
    if (thread == 0) sum[0] += rows.finish(r, row, pair, reads ? rows.raw(row, pair, label_logit, others) : 0);
  }
  finish_loss<threads>(rows, thread == 0 ? sum[0] : 0);
}

}  // namespace kernels

}  // namespace xent::cuda
