// The CPU kernels of softmax_cross_entropy and its companions.
#pragma once

#include <xent/core/op.h>

namespace xent::cpu {

void softmax_cross_entropy(const Call& call);
void softmax_cross_entropy_grad(const Call& call);      // backward of the op
void softmax_cross_entropy_in_place(const Call& call);  // the gradient takes the logits' place
void softmax_cross_entropy_grad_op(const Call& call);   // the gradient as an op of its own
void softmax_cross_entropy_denominator(const Call& call);

}  // namespace xent::cpu
