// The shape rules and samples of softmax_cross_entropy and its companions. Private.
#pragma once

#include <xent/core/op.h>

namespace xent {

// The shape without one of its axes: of the rows, given that of the logits.
Shape without_axis(const Shape& shape, int axis);

Specs loss_rule(const Op& op, std::span<const Spec> in, const Attrs& attrs);
Specs loss_grad_rule(std::span<const Spec> in, const Attrs& attrs);
Specs loss_denominator_rule(std::span<const Spec> in, const Attrs& attrs);

template <const Op* op>
Specs loss_rule(std::span<const Spec> in, const Attrs& attrs) {
  return loss_rule(*op, in, attrs);
}

Samples loss_samples(DType dtype);
Samples loss_with_grad_samples(DType dtype);
Samples loss_grad_samples(DType dtype);
Samples loss_denominator_samples(DType dtype);

// A sum as an error shows it, the same on every device: the last digits depend on the order of the terms, and the sign
// of a NaN on the processor.
std::string shown(double sum);

}  // namespace xent
