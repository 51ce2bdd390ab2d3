// accumulate_mean:       total += n x;  count += n
// accumulate_correct:    total += number of rows whose label is among the largest logits;  count += rows
// accumulate_confusion:  counts[label, argmax] += 1 for each row
//
// The logits are read once, rows by 1 to 32 lanes. Counts are of integers, so their order does not matter: blocks leave
// theirs in the workspace, and a second launch adds them up; the confusion matrix is counted by integer atomics. All do
// nothing while the error record is set, and so read no label that is no class.
#include <algorithm>

#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/call.cuh>
#include <xent/cuda/label_check.cuh>
#include <xent/cuda/row_limit.h>
#include <xent/ops/metrics_call.h>

namespace xent::cuda {

namespace {

constexpr unsigned most_blocks = 512;

__device__ bool failed(const ErrorRecord* errors) { return errors->kind != ErrorRecord::Kind::none; }

template <class T>
__global__ void add_mean(double* state, const T* x, double count, const ErrorRecord* errors) {
  if (failed(errors)) return;
  state[0] += count * static_cast<double>(*x);
  state[1] += count;
}

// How many of a row's logits rank before the label's, and whether one is a NaN.
struct Ranking {
  int before = 0, nan = 0;
};

template <class T>
__device__ Ranking rank(const T* x, int classes, int label, int lane, int lanes) {
  Ranking ranking;
  for (int c = lane; c < classes; c += lanes) {
    ranking.nan |= x[c] != x[c];
    ranking.before += x[c] > x[label] || (x[c] == x[label] && c < label);
  }
  for (int bits = lanes / 2; bits > 0; bits /= 2) {
    ranking.before += __shfl_xor_sync(0xffffffffu, ranking.before, bits);
    ranking.nan |= __shfl_xor_sync(0xffffffffu, ranking.nan, bits);
  }
  return ranking;
}

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    count_correct(const T* x, Labels labels, int64_t top, int lanes, double* of_block, const ErrorRecord* errors) {
  if (failed(errors)) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int beside = static_cast<int>(threadIdx.x) % 32;  // a warp stays together
  const int classes = static_cast<int>(labels.classes);
  double correct = 0;
  for (int64_t thread = first_index(); (thread - beside) / lanes < labels.count; thread += grid_stride()) {
    const int64_t row = thread / lanes;
    const bool in_range = row < labels.count;
    const int label = in_range ? static_cast<int>(labels[row]) : 0;
    const Ranking ranking = rank(x + row * classes, in_range ? classes : 0, label, lane, lanes);
    if (in_range && lane == 0 && !ranking.nan && ranking.before < top) correct += 1;
  }
  correct = block_sum<threads_per_block>(correct);
  if (threadIdx.x == 0) of_block[blockIdx.x] = correct;
}

__global__ void __launch_bounds__(threads_per_block)
    add_correct(double* state, const double* of_block, int64_t blocks, int64_t rows, const ErrorRecord* errors) {
  if (failed(errors)) return;
  double correct = 0;
  for (int64_t block = threadIdx.x; block < blocks; block += threads_per_block) correct += of_block[block];
  correct = block_sum<threads_per_block>(correct);
  if (threadIdx.x != 0) return;
  state[0] += correct;
  state[1] += static_cast<double>(rows);
}

// The class of a row that has a NaN is none, -1; else the first of the largest.
template <class T>
struct Prediction {
  T logit;
  int c, nan;

  __device__ void see(T x, int k) {
    nan |= x != x;
    if (x > logit || (x == logit && k < c)) logit = x, c = k;
  }
};

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    count_confusion(unsigned long long* counts, const T* logits, Labels labels, int lanes, const ErrorRecord* errors) {
  if (failed(errors)) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int beside = static_cast<int>(threadIdx.x) % 32;  // a warp stays together
  const int classes = static_cast<int>(labels.classes);
  for (int64_t thread = first_index(); (thread - beside) / lanes < labels.count; thread += grid_stride()) {
    const int64_t row = thread / lanes;
    const bool in_range = row < labels.count;
    Prediction<T> best = {T(0), 0, 0};
    if (in_range) {
      const T* x = logits + row * classes;
      best.logit = x[0];
      for (int c = lane; c < classes; c += lanes) best.see(x[c], c);
    }
    for (int bits = lanes / 2; bits > 0; bits /= 2) {
      const T logit = __shfl_xor_sync(0xffffffffu, best.logit, bits);
      const int c = __shfl_xor_sync(0xffffffffu, best.c, bits);
      best.nan |= __shfl_xor_sync(0xffffffffu, best.nan, bits);
      best.see(logit, c);
    }
    if (in_range && lane == 0 && !best.nan) atomicAdd(&counts[labels[row] * labels.classes + best.c], 1ull);
  }
}

// How the rows of a call are shared out.
struct Rows {
  Labels labels;
  int lanes;
  unsigned blocks;

  Rows(const char* op, const Call& call)
      : labels{.data = call.in[2].data,
               .dtype = call.in[2].dtype,
               .count = call.in[1].shape[0],
               .classes = row_length(op, call.in[1].shape, call.in[1].shape[1], "classes")},
        lanes(std::min(lanes_for(labels.classes), 32)),
        blocks(std::min(blocks_for(labels.count * lanes), most_blocks)) {}
};

}  // namespace

void accumulate_mean(const Call& call) {
  const auto count = static_cast<double>(call.attrs.as<MeanAttrs>().count);
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    start(call, "accumulate_mean", {1, 1}, add_mean<T>, call.in[0].as<double>(), call.in[1].as<T>(), count,
          errors_of(call));
  });
}

void accumulate_correct(const Call& call) {
  const Rows rows("accumulate_correct", call);
  auto* of_block = static_cast<double*>(call.workspace);
  check_labels(call, "accumulate_correct", call.in[2], rows.labels.classes);
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    start(call, "accumulate_correct", {rows.blocks}, count_correct<T>, call.in[1].as<T>(), rows.labels,
          call.attrs.as<CorrectAttrs>().top, rows.lanes, of_block, errors_of(call));
  });
  start(call, "accumulate_correct", {1}, add_correct, call.in[0].as<double>(), of_block, rows.blocks, rows.labels.count,
        errors_of(call));
}

size_t accumulate_correct_workspace(const Call& call) {
  return Rows("accumulate_correct", call).blocks * sizeof(double);
}

void accumulate_confusion(const Call& call) {
  const Rows rows("accumulate_confusion", call);
  require_own_labels(call);
  check_labels(call, "accumulate_confusion", call.in[2], rows.labels.classes);
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    start(call, "accumulate_confusion", {rows.blocks}, count_confusion<T>, call.in[0].as<unsigned long long>(),
          call.in[1].as<T>(), rows.labels, rows.lanes, errors_of(call));
  });
}

}  // namespace xent::cuda
