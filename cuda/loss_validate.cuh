// The option `validate` of softmax_cross_entropy.
#pragma once

#include <xent/cuda/loss_scalars.cuh>

namespace xent::cuda {

// Launches the search for weights and distributions that are none. scalars: null unless the denominator must be
// positive. scratch: 2 KB.
void validate_loss(const Call& call, const char* op, const LossTarget& target, const LossScalars* scalars,
                   void* scratch);

}  // namespace xent::cuda
