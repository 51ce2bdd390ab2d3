// gather_batch on CUDA: five bytes per element of the batch, one read and four written. A block of threads takes a
// piece of one sample at a time, so no index is divided. An element is rounded twice, to the bits of the CPU.
#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/cuda/label_check.cuh>
#include <xent/cuda/unfused.cuh>
#include <xent/ops/gather_batch.h>

namespace xent::cuda {

namespace {

constexpr int64_t most_rows = 65535;  // of a grid

__global__ void __launch_bounds__(threads_per_block)
    gather(const uint8_t* pixels, const uint8_t* labels, const int64_t* indices, int64_t samples, int64_t rows,
           int64_t size, float scale, float offset, float* y, int64_t* y_labels) {
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const int64_t index = indices[r];
    if (index < 0 || index >= samples) continue;  // it is on record
    for (int64_t k = first_index(); k < size; k += grid_stride())
      y[r * size + k] = multiply_add(static_cast<float>(pixels[index * size + k]), scale, offset);
    if (blockIdx.x == 0 && threadIdx.x == 0) y_labels[r] = labels[index];
  }
}

}  // namespace

void gather_batch(const Call& call) {
  const Slice &pixels = call.in[0], &labels = call.in[1], &indices = call.in[2];
  const int64_t rows = indices.shape.elements();
  if (rows == 0) return;
  const int64_t size = call.out[0].shape.elements() / rows;
  check_labels(call, "gather_batch", indices, pixels.shape[0]);
  const auto& attrs = call.attrs.as<GatherBatchAttrs>();
  const dim3 blocks(size > 0 ? blocks_for(size) : 1, static_cast<unsigned>(rows < most_rows ? rows : most_rows));
  start(call, "gather_batch", {blocks, threads_per_block, 0, threads_per_block}, gather, pixels.as<uint8_t>(),
        labels.as<uint8_t>(), indices.as<int64_t>(), pixels.shape[0], rows, size, static_cast<float>(attrs.scale),
        static_cast<float>(attrs.offset), call.out[0].as<float>(), call.out[1].as<int64_t>());
}

}  // namespace xent::cuda
