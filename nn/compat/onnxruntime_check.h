// What ONNX Runtime's operators check in common. For the sources of this folder only; it includes fmt.
#pragma once

#include <string_view>

#include <xent/core/require.h>
#include <xent/nn/compat/refused.h>
#include <xent/ops/softmax_cross_entropy.h>

namespace xent::compat::onnxruntime {

// Throws what reaches Python as RuntimeException: a check that failed in a kernel.
template <class... Args>
void enforce(bool condition, Cause cause, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw Refused(cause, "RuntimeException", fmt::format(text, std::forward<Args>(args)...));
}

// Throws what reaches Python as InvalidGraph: an operator is not defined for the types of its inputs.
template <class... Args>
void enforce_type(bool condition, Cause cause, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) throw Refused(cause, "InvalidGraph", fmt::format(text, std::forward<Args>(args)...));
}

inline Reduction::Kind parse_reduction(std::string_view op, std::string_view reduction) {
  if (reduction == "mean") return Reduction::Kind::mean;
  if (reduction == "sum") return Reduction::Kind::sum;
  enforce(reduction == "none", Cause::reduction, "{}: Unknown ReductionType String \"{}\"; use mean, sum or none", op,
          reduction);
  return Reduction::Kind::none;
}

inline void check_scores(std::string_view op, const Tensor& scores, const Tensor& labels) {
  require<ArgumentError>(scores && labels, "{}: {} is an empty tensor handle", op,
                         scores ? "label" : "the first input");
  enforce_type(is_floating(scores.dtype()), Cause::type, "{}: Type Error: logits of {}; cast them to a floating type",
               op, scores.dtype());
}

// Checks that labels have the scores' shape without the class axis.
inline void check_label_shape(std::string_view op, const Shape& scores, const Shape& labels, int axis) {
  enforce(scores.rank() == labels.rank() + 1, Cause::rank, "{}: logit_shape must be (1 + label_shape), not {} and {}",
          op, scores, labels);
  bool same = true;
  for (int i = 0; i < labels.rank(); ++i) same &= labels[i] == scores[i < axis ? i : i + 1];
  enforce(same, Cause::shape, "{}: The shape of logit and label does not match: {} and {}", op, scores, labels);
}

// Returns dY in the shape of the loss. The kernels look at its elements only.
inline Tensor shaped_dY(std::string_view op, const Tensor& dY, const Shape& loss) {
  require<ArgumentError>(static_cast<bool>(dY), "{}: dY is an empty tensor handle", op);
  enforce_type(is_floating(dY.dtype()), Cause::type, "{}: Type Error: dY of {}", op, dY.dtype());
  enforce(dY.elements() == loss.elements(), Cause::shape, "{}: dY is {}, but the loss {}", op, dY.shape(), loss);
  return dY.reshape(loss);
}

}  // namespace xent::compat::onnxruntime
