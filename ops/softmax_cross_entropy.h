// softmax_cross_entropy: the loss, its options. docs/softmax_cross_entropy.md derives it.
#pragma once

#include <cstdint>
#include <optional>

#include <xent/core/tensor.h>

namespace xent {

// What the loss of the rows is reduced to, and what a mean divides by.
struct Reduction {
  enum class Kind {
    none,  // one loss per row
    sum,
    mean,
  };
  enum class Denominator {
    weight_sum,  // the sum of the class weights of the labels that are not ignored: their number without weights
    rows,        // the number of rows, ignored ones included
  };
  enum class WhenZero {
    zero,  // loss 0
    nan,   // loss 0/0, as in PyTorch
  };

  Kind kind = Kind::mean;
  Denominator denominator = Denominator::weight_sum;
  WhenZero when_zero = WhenZero::zero;  // of a mean over nothing; the gradient is 0 either way

  friend bool operator==(const Reduction&, const Reduction&) = default;
};

struct SoftmaxCrossEntropyOptions {
  struct Target {
    std::optional<int64_t> ignore = {};  // rows with this label count for nothing and are not read; any value is legal
  };
  struct Weights {
    Tensor classes = {};  // [classes], of the logits' dtype; a row counts as much as its label's weight
  };

  int64_t axis = -1;  // of the classes
  Target target = {};
  Weights weights = {};
  Reduction reduction = {};
};

// Computes -log softmax(logits)[label] for every row and reduces it, forward and backward fused.
//
//   Tensor loss = softmax_cross_entropy(logits, labels);                    // [64, 10], [64] -> []
//   Tensor loss = softmax_cross_entropy(logits, labels, {.target = {.ignore = -100}});
//   Tensor rows = softmax_cross_entropy(logits, labels, {.reduction = {.kind = Reduction::Kind::none}});
//
// Logits are f32 or f64, labels u8, i32 or i64 with the logits' shape without the class axis. Of the logits' size
// nothing is kept but the logits: per row a pair (m, log s), m the largest logit and s the sum of exp(x - m).
// Throws ShapeError, DTypeError, and LabelError naming row, label and number of classes for a label outside
// [0, classes), before anything is written. A batch of no rows is legal: sum 0, mean as when_zero says.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels,
                             const SoftmaxCrossEntropyOptions& options = {});

}  // namespace xent
