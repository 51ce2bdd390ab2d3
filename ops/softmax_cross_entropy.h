// softmax_cross_entropy: the loss, its options and what it returns. docs/softmax_cross_entropy.md derives it.
#pragma once

#include <cstdint>
#include <optional>

#include <xent/core/tensor.h>

namespace xent {

// What the losses of the rows are reduced to, and what a mean divides by.
struct Reduction {
  enum class Kind {
    none,  // one loss per row
    sum,
    mean,
    sample_mean,  // one loss per entry of batch_axis: the mean over the other rows, by their number
  };

  // Sums over the rows that are not ignored. e: element weight, w: class weight, q: target distribution.
  enum class Denominator {
    weight_sum,       // of e w q: index and one-hot targets agree
    label_weights,    // of w[label], whatever the smoothing; index targets only
    rows,             // the number of rows, ignored ones included
    element_weights,  // of e
    nonzero_weights,  // the number of rows whose e is not 0
    target_mass,      // of q before smoothing
  };

  enum class WhenZero {     // what a mean over nothing is
    zero,                   // loss 0, gradient 0
    zero_if_not_positive,   // likewise, also for a negative denominator
    ieee,                   // divided all the same: 0/0 is NaN
    undivided,              // the sum
    error_if_not_positive,  // ArgumentError, before anything is written
  };

  Kind kind = Kind::mean;
  Denominator denominator = Denominator::weight_sum;
  WhenZero when_zero = WhenZero::zero;
  int batch_axis = 0;  // of sample_mean: an axis of the logits, not that of the classes

  friend constexpr bool operator==(const Reduction&, const Reduction&) = default;
};

// How to compute softmax_cross_entropy. Numbers only, so that a system's preset is a constant: nn/compat/presets.h.
struct SoftmaxCrossEntropyOptions {
  enum class Input { logits, log_probs };  // log_probs: no softmax is taken of them

  struct Target {
    std::optional<int64_t> ignore = {};  // rows with this label count for nothing and are not read; any value is legal
    double smoothing = 0;                // in [0, 1]: q becomes (1 - smoothing) q + smoothing / classes

    friend constexpr bool operator==(const Target&, const Target&) = default;
  };

  struct Output {
    std::optional<DType> dtype = {};  // of loss and log-probabilities: f32 unless given, f64 for logits of f64
    bool log_probs = false;           // also return log_softmax(logits), which is differentiable too

    friend constexpr bool operator==(const Output&, const Output&) = default;
  };

  // What only other systems' habits need.
  struct Parity {
    enum class OutOfRange {
      error,      // LabelError
      clip,       // to the first or last class
      nan_row,    // loss and gradient of the row are NaN
      no_target,  // as a target of zeros
    };
    enum class DenseGrad { exact, prob_minus_target };  // they differ unless a row of the target sums to 1

    OutOfRange out_of_range = OutOfRange::error;
    DenseGrad dense_grad = DenseGrad::exact;
    bool multiply_zeros = false;  // an element weight or probability of 0 times an infinite loss is NaN
    bool divide_rows = false;     // by the denominator row by row, so that a mean of ignored rows only is 0, not 0/0
    bool zero_grad_when_zero = false;  // the gradient is 0 where the denominator is, whatever the loss is
    bool any_smoothing = false;        // do not ask for [0, 1]
    int64_t smoothing_classes = 0;     // what smoothing is divided by; 0: the number of classes

    friend constexpr bool operator==(const Parity&, const Parity&) = default;
  };

  int64_t axis = -1;  // of the classes
  Input input = Input::logits;
  Target target = {};
  Reduction reduction = {};
  double scale = 1;  // of the loss
  Output output = {};
  bool validate = false;  // also check weights and distributions, which costs a pass over them
  Parity parity = {};

  friend constexpr bool operator==(const SoftmaxCrossEntropyOptions&, const SoftmaxCrossEntropyOptions&) = default;
};

// The tensors that may come with logits and target, of any floating dtype unless said; an empty handle leaves one out.
struct LossInputs {
  Tensor class_weights = {};    // [classes]: a row counts as much as its label's weight
  Tensor element_weights = {};  // one per row; differentiable
  Tensor normalizer = {};       // [] of f32 or f64: what a mean divides by instead of its own denominator
  Tensor ignore = {};           // [] or [1] of i64: the label to ignore, read on the device; overrides options
  Tensor grad_addend = {};      // of the logits' shape: added to their gradient before it is rounded
};

// Computes -log softmax(logits)[label] for every row and reduces it, forward and backward fused.
//
//   Tensor loss = softmax_cross_entropy(logits, labels);                    // [64, 10], [64] -> []
//   Tensor loss = softmax_cross_entropy(logits, labels, {.target = {.ignore = -100, .smoothing = 0.1}});
//   Tensor loss = softmax_cross_entropy(logits, labels, {}, {.class_weights = weights});
//   Tensor rows = softmax_cross_entropy(logits, labels, {.reduction = {.kind = Reduction::Kind::none}});
//
// Logits are f32, f64, f16 or bf16. The target is one index per row, u8, i32 or i64 with the logits' shape without the
// class axis, or a distribution, floating and of the logits' shape, which is differentiable. Arithmetic is in f32
// (f64 for f64) and rounded once; of the logits' size nothing is kept but the logits: per row a pair (m, log s), m the
// largest logit and s the sum of exp(x - m). Throws ShapeError, DTypeError, ArgumentError, and LabelError naming row,
// label and number of classes, before anything is written. A batch of no rows is legal: sum 0, mean as when_zero says.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& target, const SoftmaxCrossEntropyOptions& options = {},
                             const LossInputs& inputs = {});

// What the loss is made of.
struct SoftmaxCrossEntropyOutputs {
  Tensor loss;
  Tensor log_probs;    // of the logits' shape; an empty handle unless options.output.log_probs
  Tensor denominator;  // f64 []: what a mean divided by, the number of rows for sample_mean; else 1
  Tensor statistics;   // [rows, 2]: (m, log s), 0 for ignored rows; f32, or f64 for logits of f64
};

// As softmax_cross_entropy, returning all there is.
SoftmaxCrossEntropyOutputs softmax_cross_entropy_outputs(const Tensor& logits, const Tensor& target,
                                                         const SoftmaxCrossEntropyOptions& options = {},
                                                         const LossInputs& inputs = {});

// Computes the gradient of the logits without a tape, from the gradient that arrives at the loss (of any floating
// dtype) and the statistics of the forward pass. Log-probabilities serve as logits with empty statistics: a pair (0, 0)
// per row. options.output.dtype is that of the gradient: the logits' unless given.
//
//   auto [loss, log_probs, denominator, statistics] = softmax_cross_entropy_outputs(logits, labels);
//   Tensor grad = softmax_cross_entropy_grad(Tensor::ones({}), logits, labels, statistics);  // [64, 10]
Tensor softmax_cross_entropy_grad(const Tensor& grad_loss, const Tensor& logits, const Tensor& target,
                                  const Tensor& statistics, const SoftmaxCrossEntropyOptions& options = {},
                                  const LossInputs& inputs = {});

struct LossAndGrad {
  Tensor loss;
  Tensor grad;  // of the logits, for a gradient of 1 at the loss
};

// Computes loss and gradient in one pass over the logits, without a tape. The gradient takes the logits' place if
// nobody else holds them: softmax_cross_entropy_with_grad(std::move(logits), labels).
LossAndGrad softmax_cross_entropy_with_grad(Tensor logits, const Tensor& target,
                                            const SoftmaxCrossEntropyOptions& options = {},
                                            const LossInputs& inputs = {});

// Computes what a mean over these targets divides by, f64 []: add those of K micro-batches and pass the sum as
// normalizer to each, and their gradients add up to the whole batch's. shape is the logits'.
Tensor softmax_cross_entropy_denominator(const Shape& shape, const Tensor& target,
                                         const SoftmaxCrossEntropyOptions& options = {}, const LossInputs& inputs = {});

}  // namespace xent
