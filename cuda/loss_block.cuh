// Rows of up to 2^30 classes that begin anywhere: a block per row, which is read from memory once for its pair and,
// where the gradient is wanted, once more, mostly from the second-level cache. 16 bytes at a time, but for a head up to
// the first multiple of 16 bytes and a tail.
//
// A thread adds up 8 x 16 bytes of logits in the type of the arithmetic, and what they come to in f64: the error does
// not grow with the length of the row.
#pragma once

#include <xent/cuda/loss_sums.cuh>
#include <xent/cuda/loss_words.cuh>

namespace xent::cuda {

// A block has 256 threads, or as many as a processor has registers for: of long rows it may have one at a time if they
// are to be in the second-level cache still when they are read again.
template <class T>
constexpr int most_block_threads = sizeof(T) == 8 ? 512 : 768;

// Where 16 bytes can be read at once in `classes` logits: [head, head + packs * size).
template <class T>
struct Packs {
  int head, packs, tail;

  __device__ Packs(const T* from, int classes) {
    constexpr int size = LogitWords::count<T>;
    const auto beyond = static_cast<int>(reinterpret_cast<uintptr_t>(from) % 16 / sizeof(T));
    head = beyond == 0 ? 0 : size - beyond < classes ? size - beyond : classes;
    packs = (classes - head) / size;
    tail = head + packs * size;
  }
};

namespace kernels {

template <class T, bool smoothed>
__global__ void __launch_bounds__(most_block_threads<T>, 1) loss_of_blocks(LossRows<T> rows) {
  using W = Wide<T>;
  constexpr int size = LogitWords::count<T>, most_warps = most_block_threads<T> / 32;
  XENT_SHARED(W, of_warp_max, 2 * most_warps);
  XENT_SHARED(double, of_warp_rest, 2 * most_warps);
  const int threads = static_cast<int>(blockDim.x), warps = threads / 32, classes = rows.target.classes();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const bool writes = rows.writes_grad();
  double sum = 0;
  int turn = 0;  // one barrier per row: its sums go to one of two places
  for (int64_t r = blockIdx.x; r < rows.target.rows(); r += gridDim.x) {
    const TargetRow row = rows.target.row(r);
    const T* const from = rows.logits + r * classes;
    const Packs<T> place(from, classes);
    RowPair<W> pair;
    W label_logit = 0;
    const bool reads = !row.skipped && !row.poisoned;
    if (reads) {
      RowSum<W, double> exponentials;
      RowSum<W> ends;
      if (thread < place.head) ends.add(widened(from[thread]));
      if (place.tail + thread < classes) ends.add(widened(from[place.tail + thread]));
      exponentials.add(ends);
      const int at_once = 8 * threads;
      for (int first = thread; first < place.packs; first += at_once) {
        RowSum<W> part;
#pragma unroll 4
        for (int p = first; p < first + at_once && p < place.packs; p += threads) {
          const LogitWords words = *reinterpret_cast<const LogitWords*>(from + place.head + p * size);
          W values[size];
#pragma unroll
          for (int k = 0; k < size; ++k) values[k] = words.template get<T>(k);
          part.add(values);
        }
        exponentials.add(part);
      }
      if (row.label >= 0) label_logit = widened(from[row.label]);
      exponentials = merged<32>(exponentials);
      if (lane == 0) of_warp_max[turn + warp] = exponentials.max, of_warp_rest[turn + warp] = exponentials.rest;
      __syncthreads();  // and the label's logit, which may be overwritten, has been read
      exponentials = {};
      if (lane < warps) exponentials = {of_warp_max[turn + lane], of_warp_rest[turn + lane]};
      exponentials = merged<32>(exponentials);
      pair = {exponentials.max, exponentials.log_sum()};
      turn ^= warps;
    }
    // The second time: the surprises of all classes, if smoothing makes them count, and the gradient.
    double others = 0;
    if (writes || (smoothed && reads)) {
      const RowGrad<W> grad(rows.target, rows.for_grad(row), pair, label_logit, rows.upstream(row));
      T* const to = writes ? rows.grad + r * classes : nullptr;
      const bool together = (reinterpret_cast<uintptr_t>(to) - reinterpret_cast<uintptr_t>(from)) % 16 == 0;
      const auto one = [&](int c) {
        const W x = reads ? widened(from[c]) : W(0);
        if (smoothed && reads && c != row.label) others += static_cast<double>(pair.surprise(x));
        if (to) to[c] = narrowed<T>(grad(c == row.label, x));
      };
      if (thread < place.head) one(thread);
      if (place.tail + thread < classes) one(place.tail + thread);
      for (int p = thread; p < place.packs; p += threads) {
        const int first = place.head + p * size;
        LogitWords x = {}, dx = {};
        if (reads) x = *reinterpret_cast<const LogitWords*>(from + first);
        W surprises = 0;
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const W value = x.template get<T>(k);
          if (smoothed && reads && first + k != row.label) surprises += pair.surprise(value);
          dx.template set<T>(k, grad(first + k == row.label, value));
        }
        others += static_cast<double>(surprises);
        if (!to) continue;
        if (together) stream(reinterpret_cast<LogitWords*>(to + first), dx);
        else
#pragma unroll
          for (int k = 0; k < size; ++k) to[first + k] = narrowed<T>(dx.template get<T>(k));
      }
    }
    if (smoothed) others = block_sum<most_block_threads<T>>(others, warps);
    if (thread == 0) sum += rows.finish(r, row, pair, reads ? rows.raw(row, pair, label_logit, others) : 0);
  }
  finish_loss<most_block_threads<T>>(rows, sum, threads);
}

}  // namespace kernels

}  // namespace xent::cuda
