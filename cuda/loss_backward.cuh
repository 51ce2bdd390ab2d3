// The gradient from the pairs that forward kept, for rows that lie one after another: the logits once, the gradient
// once, 16 bytes at a time wherever logits and gradient begin at the same distance from a multiple of 16. Rows play no
// part in how the work is shared: a thread looks up the row of its first logit, and the next one where that ends.
//
//   dx_c = k p_c - t_c   (loss_math.cuh: RowGrad)
#pragma once

#include <xent/cuda/loss_sums.cuh>
#include <xent/cuda/loss_words.cuh>

namespace xent::cuda {

namespace kernels {

// The gradient of a row that is given by its number, and its label.
template <class T>
struct NumberedRow {
  int label;
  RowGrad<Wide<T>> grad;
};

template <class T>
__device__ NumberedRow<T> grad_of(const LossRows<T>& rows, FloatingNumbers grad_losses, int64_t r) {
  using W = Wide<T>;
  const TargetRow row = rows.for_grad(rows.target.row(r));
  RowPair<W> pair;  // (0, 0) for log-probabilities in the logits' place
  if (rows.statistics) pair = {rows.statistics[2 * r], rows.statistics[2 * r + 1]};
  const bool reads = !row.skipped && !row.poisoned && row.label >= 0;
  const W label_logit = reads ? widened(rows.logits[r * rows.target.classes() + row.label]) : W(0);
  const double arriving = grad_losses ? grad_losses[r] : 1;
  return {static_cast<int>(row.label), RowGrad<W>(rows.target, row, pair, label_logit, arriving * rows.upstream(row))};
}

// grad_losses: of every row, where they are not one number.
template <class T>
__global__ void __launch_bounds__(threads_per_block, 4)
    loss_backward(LossRows<T> rows, FloatingNumbers grad_losses, Divisor by_classes, int64_t head, int64_t packs) {
  constexpr int size = LogitWords::count<T>;
  const int classes = rows.target.classes();
  const int64_t count = rows.target.rows() * classes;
  const auto at = [&](int64_t i) {
    const auto [r, c] = by_classes.of(i);
    const auto [label, grad] = grad_of(rows, grad_losses, r);
    rows.grad[i] = narrowed<T>(grad(c == label, grad.filled ? 0 : widened(rows.logits[i])));
  };
  for (int64_t p = first_index(); p < packs; p += grid_stride()) {
    const int64_t first = head + p * size;
    auto [r, place] = by_classes.of(first);
    int c = static_cast<int>(place);
    auto row = grad_of(rows, grad_losses, r);
    const LogitWords x = *reinterpret_cast<const LogitWords*>(rows.logits + first);
    LogitWords dx = {};
#pragma unroll
    for (int k = 0; k < size; ++k) {
      if (c == classes) {
        c = 0;
        row = grad_of(rows, grad_losses, ++r);
      }
      dx.template set<T>(k, row.grad(c == row.label, x.template get<T>(k)));
      ++c;
    }
    stream(reinterpret_cast<LogitWords*>(rows.grad + first), dx);
  }
  const int64_t tail = head + packs * size, left = head + (count - tail);
  for (int64_t i = first_index(); i < left; i += grid_stride()) at(i < head ? i : tail + (i - head));
}

}  // namespace kernels

// How many logits come before the first multiple of 16 bytes, and how many whole packs follow.
template <class T>
void start_backward(const Call& call, const LossRows<T>& rows, FloatingNumbers grad_losses) {
  constexpr int64_t size = LogitWords::count<T>;
  const int64_t count = rows.target.rows() * rows.target.classes();
  const auto beyond = [](const T* address) { return reinterpret_cast<uintptr_t>(address) % 16 / sizeof(T); };
  const bool together = beyond(rows.logits) == beyond(rows.grad);
  const int64_t to_multiple = (size - static_cast<int64_t>(beyond(rows.logits))) % size;
  const int64_t head = together ? std::min(to_multiple, count) : 0, packs = together ? (count - head) / size : 0;
  const Grid grid = {.blocks = blocks_for(std::max(packs, count - packs * size)), .max_threads = threads_per_block};
  start(call, "loss_backward", grid, kernels::loss_backward<T>, rows, grad_losses, Divisor(rows.target.classes()), head,
        packs);
}

}  // namespace xent::cuda
