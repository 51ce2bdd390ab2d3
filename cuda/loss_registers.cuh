// Rows of many classes that begin at multiples of 16 bytes: a block per row, which stays in registers, 8 x 16 bytes in
// every thread. All loads are on their way before the first is used; the logits are read once and the gradient is
// written from the registers.
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
  const int classes = static_cast<int>(rows.target.classes()), thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32, warp = thread / 32;
  const bool writes = rows.writes_grad();
  double sum = 0;
  int turn = 0;
  for (int64_t r = blockIdx.x; r < rows.target.rows(); r += gridDim.x) {
    const TargetRow row = rows.target.row(r);
    const T* const from = rows.logits + r * classes;
    LogitWords x[register_packs];
    RowPair<W> pair;
    W label_logit = 0;
    const bool reads = !row.skipped && !row.poisoned;
    if (reads) {
#pragma unroll
      for (int j = 0; j < register_packs; ++j) {
        const int c = (thread + j * threads) * size;
        if (c < classes) x[j] = *reinterpret_cast<const LogitWords*>(from + c);
        else x[j].fill<T>(static_cast<W>(-INFINITY));
      }
      if (row.label >= 0) label_logit = widened(from[row.label]);
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
    W surprises = 0;  // of the other classes
    if (writes || (smoothed && reads)) {
      const RowGrad<W> grad(rows.target, rows.for_grad(row), pair, label_logit, rows.upstream(row));
      T* const to = rows.grad + r * classes;
#pragma unroll
      for (int j = 0; j < register_packs; ++j) {
        const int c = (thread + j * threads) * size;
        if (c >= classes) continue;
        LogitWords dx = {};
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const W value = x[j].template get<T>(k);
          if (smoothed && c + k != row.label) surprises += pair.surprise(value);
          dx.template set<T>(k, grad(c + k, value));
        }
        if (writes) stream(reinterpret_cast<LogitWords*>(to + c), dx);
      }
    }
    double others = 0;
    if (smoothed && reads) others = block_sum<threads>(static_cast<double>(surprises));
    if (thread == 0) sum += rows.finish(r, row, pair, reads ? rows.raw(row, pair, label_logit, others) : 0);
  }
  finish_loss<threads>(rows, sum);
}

}  // namespace kernels

}  // namespace xent::cuda
