// What a loss per sample takes beside its rows' losses.
#pragma once

#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/loss_scalars.cuh>
#include <xent/cuda/row_groups.cuh>

namespace xent::cuda {

namespace kernels {

// The sum of the rows' losses for every entry of the batch axis, in the order of the rows.
__global__ void __launch_bounds__(group_threads)
    add_samples(const double* row_losses, int64_t samples, int after, int per_sample, const LossScalars* scalars,
                FloatingNumbers loss) {
  for (int64_t sample = blockIdx.x; sample < samples; sample += gridDim.x) {
    double sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < per_sample; i += group_threads)
      sum += row_losses[(i / after * samples + sample) * after + i % after];
    sum = block_sum<group_threads>(sum);
    if (threadIdx.x == 0) loss.store(sample, scalars->zero_loss ? 0 : sum / scalars->by);
  }
}

}  // namespace kernels

}  // namespace xent::cuda
