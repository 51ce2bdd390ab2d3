// LossTarget: what the targets of softmax_cross_entropy say of a row, on the GPU: its label or distribution, whether it
// is ignored, its weights, and what it adds to the denominator of a mean. ops/cpu/loss_targets.h, for kernels.
//
// A row is looked up by every thread that works on it: the loads are broadcast, and nothing has to be handed around.
#pragma once

#include <cmath>

#include <xent/core/convert.h>
#include <xent/cuda/divisor.cuh>
#include <xent/cuda/label_check.cuh>
#include <xent/ops/loss_call.h>

namespace xent::cuda {

// A tensor of any floating dtype whose numbers are read, or written, one by one.
struct FloatingNumbers {
  void* data = nullptr;
  DType dtype = DType::f32;

  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
  }
  explicit __host__ __device__ operator bool() const { return data != nullptr; }
  __device__ double operator[](int64_t i) const {
    switch (dtype) {
      case DType::f64: return static_cast<const double*>(data)[i];
      case DType::f16: return static_cast<double>(static_cast<float>(static_cast<const Float16*>(data)[i]));
      case DType::bf16: return static_cast<double>(static_cast<float>(static_cast<const BFloat16*>(data)[i]));
      default: return static_cast<double>(static_cast<const float*>(data)[i]);
    }
  }
  template <class Number>
  __device__ void store(int64_t i, Number value) const {
    switch (dtype) {
      case DType::f64: static_cast<double*>(data)[i] = static_cast<double>(value); break;
      case DType::f16: static_cast<Float16*>(data)[i] = convert<Float16>(value); break;
      case DType::bf16: static_cast<BFloat16*>(data)[i] = convert<BFloat16>(value); break;
      default: static_cast<float*>(data)[i] = static_cast<float>(value); break;
    }
  }
};

inline FloatingNumbers numbers_of(const Slice& slice) { return {slice.data, slice.dtype}; }

// A row as its label and weights tell.
struct TargetRow {
  int64_t label = -1;     // -1: a distribution, or no class at all
  double element = 1;     // its element weight
  bool ignored = false;   // by its label
  bool skipped = false;   // ignored, or weighing nothing: not read, gradient +0
  bool poisoned = false;  // a label out of range: NaN
};

struct LossTarget {
  using Parity = SoftmaxCrossEntropyOptions::Parity;

  Labels labels;  // of index targets; count and classes in any case
  FloatingNumbers distribution, class_weights, element_weights;
  Divisor inner;                // how far apart a row's elements are
  double kept = 1, spread = 0;  // of smoothing: q becomes kept q + spread
  Parity::OutOfRange out_of_range = Parity::OutOfRange::error;
  bool dense = false, multiply_zeros = false, exact = true;  // exact: the gradient of a distribution

  template <class F>
  void for_each_pointer(F&& f) const {
    labels.for_each_pointer(f);
    for (const FloatingNumbers* numbers : {&distribution, &class_weights, &element_weights}) f(numbers->data);
  }

  __host__ __device__ int64_t rows() const { return labels.count; }
  __host__ __device__ int classes() const { return static_cast<int>(labels.classes); }  // at most longest_row
  __host__ __device__ bool smoothed() const { return spread != 0; }
  __device__ int64_t start(int64_t row) const {
    const auto [outer, i] = inner.of(row);
    return outer * classes() * inner.by + i;
  }

  // An error of the label has been noted by who checked; here it is a NaN.
  __device__ TargetRow row(int64_t r) const {
    TargetRow row;
    if (!dense) {
      row.label = labels[r];
      if (labels.is_ignored(row.label)) return {.ignored = true, .skipped = true};
      if (!labels.is_class(row.label)) {
        if (out_of_range == Parity::OutOfRange::clip) row.label = row.label < 0 ? 0 : classes() - 1;
        else if (out_of_range == Parity::OutOfRange::no_target) row.label = -1;
        else return {.poisoned = true};
      }
    }
    if (element_weights) row.element = element_weights[r];
    row.skipped = row.element == 0 && !multiply_zeros;
    return row;
  }

  __device__ double class_weight(int64_t c) const { return class_weights ? class_weights[c] : 1; }

  // The probability of class c in a row's target, smoothed; at: where that element is.
  __device__ double probability(const TargetRow& row, int c, int64_t at) const {
    const double q = dense ? distribution[at] : c == row.label ? 1 : 0;
    return smoothed() ? kept * q + spread : q;
  }

  // sum_c w_c q_c of an index; all_weights: of the classes. Fused by hand: left to nvcc, the gradient could come out
  // another in forward than in backward.
  __device__ double label_mass(const TargetRow& row, double all_weights) const {
    return std::fma(spread, all_weights, kept * (row.label < 0 ? 0 : class_weight(row.label)));
  }

  // What a row with an index that is not smoothed multiplies p by.
  __device__ double label_share(const TargetRow& row, double upstream) const {
    return row.label >= 0 ? upstream * class_weight(row.label) : exact ? 0 : upstream;
  }
};

}  // namespace xent::cuda
