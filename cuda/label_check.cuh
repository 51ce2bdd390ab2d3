// Labels on the GPU: how a kernel reads them, and how it tells of one that is no class.
//
//   check_labels(call, "pick", call.in[1], classes);   // on the host: one launch
//   ...
//   const int64_t label = labels[row];                 // in a kernel that is launched after it
//   if (labels.is_class(label)) y[row] = x[row * labels.classes + label];
//
// A check reads every label once. Only where a bad one is found are all of them looked at again, for the first bad row
// and for what label_guess.h wants to know; that block does it whose own rows the first bad row is one of, so there is
// one writer, and what it writes does not depend on which block came first.
#pragma once

#include <optional>

#include <xent/cuda/call.cuh>

namespace xent::cuda {

struct Labels {
  const void* data = nullptr;
  DType dtype = DType::i64;
  int64_t count = 0, classes = 0;
  bool ignores = false;  // is there a label to ignore: that one, or the one at ignore_at
  int64_t ignore = 0;
  const int64_t* ignore_at = nullptr;

  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
    f(ignore_at);
  }

  __device__ int64_t operator[](int64_t row) const {
    if (dtype == DType::i64) return static_cast<const int64_t*>(data)[row];
    if (dtype == DType::i32) return static_cast<const int32_t*>(data)[row];
    return static_cast<const uint8_t*>(data)[row];
  }
  __device__ bool is_ignored(int64_t label) const { return ignores && label == (ignore_at ? *ignore_at : ignore); }
  __device__ bool is_class(int64_t label) const { return label >= 0 && label < classes; }
  __device__ bool is_bad(int64_t label) const { return !is_class(label) && !is_ignored(label); }
};

// Labels, and where to tell of a bad one.
struct LabelCheck {
  Labels labels;
  const char* op;  // in the host's memory: not read here
  ErrorRecord* errors;

  template <class F>
  void for_each_pointer(F&& f) const {
    labels.for_each_pointer(f);
    f(errors);
  }
};

// What has been seen of some labels; LabelRange in numbers that can be put together.
struct SeenLabels {
  int64_t bad_row, bad;  // the first bad one; INT64_MAX: none
  int64_t least, most;
  int64_t several;  // are there bad labels that differ?

  static __device__ SeenLabels none() { return {INT64_MAX, 0, INT64_MAX, INT64_MIN, 0}; }
  __device__ void see(const Labels& labels, int64_t row);
  __device__ void add(const SeenLabels& other);
};

// For a block whose thread t has looked at the rows begin + t, begin + t + stride, ..., both multiples of the block's
// threads: writes the record if there is a bad label and the first is one of the block's. found: has this thread seen
// one? Every thread of the block calls it.
__device__ void report_bad_labels(const LabelCheck& check, bool found, int64_t begin, int64_t stride);

// Launches the check of labels against [0, classes). The record of the stream tells the first that is none.
void check_labels(const Call& call, const char* op, const Slice& labels, int64_t classes,
                  std::optional<int64_t> ignore = {});

// ---- the device's side ----

__device__ inline void SeenLabels::see(const Labels& labels, int64_t row) {
  const int64_t label = labels[row];
  if (labels.is_ignored(label)) return;
  least = label < least ? label : least;
  most = label > most ? label : most;
  if (!labels.is_class(label)) add({row, label, INT64_MAX, INT64_MIN, 0});
}

__device__ inline void SeenLabels::add(const SeenLabels& other) {
  const bool both = bad_row != INT64_MAX && other.bad_row != INT64_MAX;
  several = several != 0 || other.several != 0 || (both && bad != other.bad);
  if (other.bad_row < bad_row) bad_row = other.bad_row, bad = other.bad;
  least = other.least < least ? other.least : least;
  most = other.most > most ? other.most : most;
}

// Of every step-th label, from the one at `begin` on.
__device__ inline SeenLabels seen_labels(const Labels& labels, int64_t begin, int64_t step) {
  SeenLabels seen = SeenLabels::none();
  for (int64_t row = begin; row < labels.count; row += step) seen.see(labels, row);
  return seen;
}

__device__ inline void report_bad_labels(const LabelCheck& check, bool found, int64_t begin, int64_t stride) {
  XENT_SHARED(SeenLabels, of_warp, 32);
  if (!__syncthreads_or(found)) return;
  const auto& [labels, op, errors] = check;
  SeenLabels seen = seen_labels(labels, threadIdx.x, blockDim.x);
  const auto other = [](int64_t value, int bits) { return __shfl_xor_sync(0xffffffffu, value, bits); };
  for (int bits = 16; bits > 0; bits /= 2)
    seen.add({other(seen.bad_row, bits), other(seen.bad, bits), other(seen.least, bits), other(seen.most, bits),
              other(seen.several, bits)});
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = seen;
  __syncthreads();
  if (threadIdx.x != 0 || errors == nullptr) return;
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) seen.add(of_warp[warp]);
  if (seen.bad_row % stride / blockDim.x != begin / blockDim.x) return;
  if (errors->kind != ErrorRecord::Kind::none) return;  // the first error stays
  *errors = {.kind = ErrorRecord::Kind::label,
             .op = op,
             .row = seen.bad_row,
             .label = seen.bad,
             .classes = labels.classes,
             .least = seen.least,
             .most = seen.most,
             .one_bad_value = seen.several == 0};
}

}  // namespace xent::cuda
