// The option `validate` of softmax_cross_entropy.
#pragma once

#include <xent/cuda/loss_target.cuh>

namespace xent::cuda {

// Launches the search for weights and distributions that are none. scratch: 2 KB.
void validate_loss(const Call& call, const char* op, const LossTarget& target, void* scratch);

}  // namespace xent::cuda
