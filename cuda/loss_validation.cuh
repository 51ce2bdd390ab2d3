// The option `validate`: weights that are negative or not finite, and rows of a target that are no distribution, are
// errors, told by the record as bad labels are. Two launches: every block looks for the first bad row among its own,
// and one block for the first of all, and for bad weights. A denominator that must be positive is judged last, since
// weights may be what is wrong with it.
#pragma once

#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/loss_scalars.cuh>

namespace xent::cuda {

struct LossValidation {
  LossTarget target;
  const char* op;  // in the host's memory
  ErrorRecord* errors;
  const LossScalars* scalars;  // null unless the denominator must be positive
  int64_t* bad_rows;           // of every block: its first, INT64_MAX if there is none

  template <class F>
  void for_each_pointer(F&& f) const {
    target.for_each_pointer(f);
    f(errors);
    f(scalars);
    f(bad_rows);
  }
};

namespace kernels {

constexpr int validating_threads = 256;

// The smallest that any thread of the block brings.
__device__ inline int64_t first_in_block(int64_t mine) {
  XENT_SHARED(int64_t, of_warp, validating_threads / 32);
  for (int bits = 16; bits > 0; bits /= 2) {
    const int64_t other = __shfl_xor_sync(0xffffffffu, mine, bits);
    mine = other < mine ? other : mine;
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  for (int warp = 0; warp < validating_threads / 32; ++warp) mine = of_warp[warp] < mine ? of_warp[warp] : mine;
  __syncthreads();  // of_warp may be written again
  return mine;
}

struct RowCheck {
  double sum;
  bool probabilities;  // is every element in [0, 1]?
  __device__ bool bad() const { return !(probabilities && std::abs(sum - 1) < 1e-2); }
};

// By a warp.
__device__ inline RowCheck checked_row(const LossTarget& target, int64_t r) {
  const int64_t start = target.start(r);
  double sum = 0;
  bool probabilities = true;
  for (int c = static_cast<int>(threadIdx.x) % 32; c < target.classes(); c += 32) {
    const double q = target.distribution[start + c * target.inner.by];
    probabilities = probabilities && q >= 0 && q <= 1.001;
    sum += q;
  }
  return {warp_sum(sum), __all_sync(0xffffffffu, probabilities) != 0};
}

__global__ void __launch_bounds__(validating_threads) find_bad_distribution(LossValidation v) {
  constexpr int warps = validating_threads / 32;
  int64_t first = INT64_MAX;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / 32; r < v.target.rows();
       r += static_cast<int64_t>(gridDim.x) * warps)
    if (checked_row(v.target, r).bad() && r < first) first = r;
  first = first_in_block(first);
  if (threadIdx.x == 0) v.bad_rows[blockIdx.x] = first;
}

// The first of every step-th weight, from `begin` on, that is negative or not finite; INT64_MAX if none is.
__device__ inline int64_t first_bad(const FloatingNumbers& weights, int64_t count, int64_t begin, int64_t step) {
  int64_t first = INT64_MAX;
  for (int64_t i = begin; weights && i < count; i += step)
    if (!(weights[i] >= 0 && weights[i] < static_cast<double>(INFINITY)) && i < first) first = i;
  return first;
}

__global__ void __launch_bounds__(validating_threads) report_invalid(LossValidation v, int blocks) {
  using Kind = ErrorRecord::Kind;
  const auto report = [&](const ErrorRecord& error) {
    if (threadIdx.x == 0 && v.errors && v.errors->kind == Kind::none) *v.errors = error;
  };
  const auto weights_are_bad = [&](const FloatingNumbers& weights, int64_t count, Kind kind) {
    const int64_t first = first_in_block(first_bad(weights, count, threadIdx.x, validating_threads));
    if (first == INT64_MAX) return false;
    report({.kind = kind, .op = v.op, .row = first, .denominator = weights[first]});
    return true;
  };
  if (weights_are_bad(v.target.class_weights, v.target.classes(), Kind::class_weight)) return;
  if (weights_are_bad(v.target.element_weights, v.target.rows(), Kind::element_weight)) return;
  const int block = static_cast<int>(threadIdx.x);
  const int64_t first = first_in_block(block < blocks ? v.bad_rows[block] : INT64_MAX);
  if (first == INT64_MAX) {
    if (v.scalars && v.scalars->by <= 0) report({.kind = Kind::denominator, .op = v.op, .denominator = v.scalars->by});
    return;
  }
  if (threadIdx.x >= 32) return;
  const RowCheck row = checked_row(v.target, first);
  report({.kind = Kind::distribution,
          .op = v.op,
          .row = first,
          .one_bad_value = row.probabilities,
          .denominator = row.sum});
}

}  // namespace kernels

}  // namespace xent::cuda
