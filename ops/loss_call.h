// LossCall: what softmax_cross_entropy and its gradient are called with, by name, for the kernels of every device.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include <xent/core/op.h>
#include <xent/ops/softmax_cross_entropy.h>

namespace xent {

struct LossAttrs {
  SoftmaxCrossEntropyOptions options;  // with the axes resolved: [0, rank)
  bool with_grad = false;              // also write the gradient for an upstream of 1
  int64_t classes = 0;                 // of softmax_cross_entropy_denominator, which sees no logits

  bool operator==(const LossAttrs&) const = default;
};

// The logits' shape from that of the rows: one axis more.
inline Shape logits_shape(const Shape& rows, int axis, int64_t classes) {
  std::array<int64_t, Shape::max_rank> extents{};
  for (int a = 0; a <= rows.rank(); ++a)
    extents[static_cast<size_t>(a)] = a == axis ? classes : rows[a < axis ? a : a - 1];
  return Shape(std::span<const int64_t>(extents.data(), static_cast<size_t>(rows.rank() + 1)));
}

// Inputs, in order. The last two are softmax_cross_entropy_grad's.
namespace loss_in {
enum : size_t {
  logits,
  target,
  class_weights,
  element_weights,
  normalizer,
  ignore,
  grad_addend,
  grad_loss,
  statistics
};
}

// Outputs of softmax_cross_entropy, in order. Those that were not asked for have the shape [0].
namespace loss_out {
enum : size_t { loss, statistics, denominator, total, log_probs, grad };
}

// A tensor of floating numbers that are read one by one.
struct Numbers {
  Slice slice;

  explicit operator bool() const { return static_cast<bool>(slice); }

  double operator[](int64_t i) const {
    switch (slice.dtype) {
      case DType::f32: return static_cast<double>(slice.as<float>()[i]);
      case DType::f64: return slice.as<double>()[i];
      case DType::f16: return static_cast<double>(static_cast<float>(slice.as<Float16>()[i]));
      case DType::bf16: return static_cast<double>(static_cast<float>(slice.as<BFloat16>()[i]));
      default: return 0;  // the shape rule lets no other dtype through
    }
  }
};

// The samples of Reduction::Kind::sample_mean: those rows that share an index of the batch axis. Row r is of sample
// (r / after) % samples.
struct SampleRows {
  int64_t samples, after, per_sample;

  SampleRows(const Shape& shape, int axis, int batch_axis) : samples(shape[batch_axis]), after(1) {
    for (int a = batch_axis + 1; a < shape.rank(); ++a) after *= a == axis ? 1 : shape[a];
    int64_t rows = 1;
    for (int a = 0; a < shape.rank(); ++a) rows *= a == axis || a == batch_axis ? 1 : shape[a];
    per_sample = rows;
  }
  int64_t sample(int64_t row) const { return row / after % samples; }
  int64_t row(int64_t sample, int64_t i) const { return (i / after * samples + sample) * after + i % after; }
};

// What a sum over rows is divided by, once its denominator is known.
struct Division {
  double by = 1;
  bool zero_loss = false;  // a mean over nothing
  bool zero_grad = false;

  static constexpr Division of(const SoftmaxCrossEntropyOptions& options, double denominator) {
    using WhenZero = Reduction::WhenZero;
    if (options.reduction.kind == Reduction::Kind::none || options.reduction.kind == Reduction::Kind::sum) return {};
    Division division{.by = denominator};
    switch (options.reduction.when_zero) {
      case WhenZero::zero: division.zero_loss = division.zero_grad = denominator == 0; break;
      case WhenZero::zero_if_not_positive: division.zero_loss = division.zero_grad = !(denominator > 0); break;
      case WhenZero::undivided: division.by = denominator == 0 ? 1 : denominator; break;
      case WhenZero::ieee:
      case WhenZero::error_if_not_positive: break;
    }
    if (division.zero_loss && options.parity.multiply_zeros)  // the gradient is 0 times that of the rows, be it NaN
      division = {.by = std::numeric_limits<double>::infinity(), .zero_loss = true};
    division.zero_grad = division.zero_grad || (options.parity.zero_grad_when_zero && denominator == 0);
    return division;
  }
};

}  // namespace xent
