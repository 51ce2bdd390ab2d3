// LossRows: the rows of a loss as a kernel is given them, and what it does with a row's loss once it knows it.
//
// A block adds up its rows and leaves the sum behind; the last block to finish adds those up in the order of the blocks
// and divides: one launch, no atomic but that on the ticket, the same bits in any order. The ticket is set by the
// launch before (loss_scalars.cuh). Weights and sums are in f64.
#pragma once

#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/loss_math.cuh>
#include <xent/cuda/loss_scalars.cuh>

namespace xent::cuda {

// So many threads, about as many as the largest GPU runs at once, take all rows. A block has at least 128 of them, and
// leaves a sum behind.
constexpr int64_t most_loss_threads = 1 << 18, most_loss_blocks = most_loss_threads / 128;

template <class T>
struct LossRows {
  using W = Wide<T>;

  const T* logits = nullptr;
  LossTarget target;
  LossScalars* scalars = nullptr;
  double scale = 1;
  bool divides_rows = false;  // by the denominator before they are summed
  bool reduces = true, has_total = true;

  T* grad = nullptr;                    // may be the logits
  const ErrorRecord* errors = nullptr;  // if the gradient is: while it is set, the logits stay
  W* statistics = nullptr;
  FloatingNumbers loss = {};     // one number, or one per row
  double* row_losses = nullptr;  // for sums over other rows than all
  double *total = nullptr, *partial = nullptr;

  template <class F>
  void for_each_pointer(F&& f) const {
    target.for_each_pointer(f);
    for (const void* pointer :
         {static_cast<const void*>(logits), static_cast<const void*>(scalars), static_cast<const void*>(grad),
          static_cast<const void*>(errors), static_cast<const void*>(statistics), static_cast<const void*>(loss.data),
          static_cast<const void*>(row_losses), static_cast<const void*>(total), static_cast<const void*>(partial)})
      f(pointer);
  }

  __device__ bool writes_grad() const { return grad && !(errors && errors->kind != ErrorRecord::Kind::none); }

  // What a row's gradient is multiplied by, but for its class weight.
  __device__ double upstream(const TargetRow& row) const { return scalars->factor * row.element; }

  // The row as its gradient sees it.
  __device__ TargetRow for_grad(TargetRow row) const {
    row.skipped = row.skipped || scalars->zero_grad;
    return row;
  }

  // The loss of a row with an index, without element weight and scale. others: the sum of the other classes' surprises,
  // which smoothing makes count.
  __device__ double raw(const TargetRow& row, RowPair<W> pair, W label_logit, double others) const {
    const double surprise = row.label < 0 ? 0 : static_cast<double>(pair.surprise(label_logit));
    if (!target.smoothed()) return row.label < 0 ? 0 : target.class_weight(row.label) * surprise;
    const double q = target.kept + target.spread;
    return target.spread * others + (row.label < 0 || (q == 0 && !target.multiply_zeros) ? 0 : q * surprise);
  }

  // Stores the pair and the loss of a row, and returns what it adds to the sum. raw: the loss without element weight
  // and scale.
  __device__ double finish(int64_t r, const TargetRow& row, RowPair<W> pair, double raw) const {
    statistics[2 * r] = pair.max;
    statistics[2 * r + 1] = pair.log_sum;
    const double value = row.poisoned ? static_cast<double>(NAN) : row.skipped ? 0 : scale * row.element * raw;
    if (row_losses) row_losses[r] = value;
    if (!reduces && !row_losses) loss.store(r, value);
    return value;
  }
};

// The end of a kernel: every thread of every block brings a part of the sum. most: threads that a block may have.
template <int most, class T>
__device__ void finish_loss(const LossRows<T>& rows, double sum, int threads = most) {
  XENT_SHARED(bool, is_last, 1);
  sum = block_sum<most>(sum, threads / 32);
  if (threadIdx.x == 0) {
    rows.partial[blockIdx.x] = sum;
    __threadfence();
    is_last[0] = atomicAdd(&rows.scalars->ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last[0]) return;
  sum = 0;
  for (unsigned block = threadIdx.x; block < gridDim.x; block += static_cast<unsigned>(threads))
    sum += __ldcg(&rows.partial[block]);
  sum = block_sum<most>(sum, threads / 32);
  if (threadIdx.x != 0) return;
  const LossScalars& scalars = *rows.scalars;
  *rows.total = !rows.has_total ? 0 : rows.divides_rows ? sum * scalars.by : sum;
  if (rows.reduces) rows.loss.store(0, scalars.zero_loss ? 0 : rows.divides_rows ? sum : sum / scalars.by);
}

}  // namespace xent::cuda
