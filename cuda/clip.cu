// accumulate_squares and clip_to_norm on CUDA; ops/clip.cpp has the formulas.
//
// Squares are taken and summed in f64, 4 bytes read per element of f32: each thread its own elements, then the lanes of
// a warp, the warps of a block, and in a second launch the blocks, so the order depends on the shape alone. What one
// block can do takes one launch. Whether to clip is decided on the device: a norm that is small enough costs no more
// than reading it.
#include <cmath>
#include <cstdint>

#include <xent/cuda/block_sum.cuh>
#include <xent/cuda/call.cuh>
#include <xent/ops/clip_attrs.h>

namespace xent::cuda {

namespace {

constexpr int64_t elements_per_thread = 16;
constexpr int64_t most_blocks = 1024;

int64_t blocks_of_sum(int64_t count) {
  const int64_t blocks = blocks_for(count / elements_per_thread + (count % elements_per_thread != 0));
  return blocks < most_blocks ? blocks : most_blocks;
}

__device__ void add_to(double* total, double value, const ErrorRecord* errors) {
  if (threadIdx.x == 0 && errors->kind == ErrorRecord::Kind::none) *total += value;
}

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    sum_squares(const ErrorRecord* errors, const T* x, int64_t count, double* partials, double* total) {
  double squares = 0;
  for (int64_t i = first_index(); i < count; i += grid_stride()) {
    const auto value = static_cast<double>(x[i]);
    squares += value * value;
  }
  squares = block_sum<threads_per_block>(squares);
  if (gridDim.x == 1) add_to(total, squares, errors);
  else if (threadIdx.x == 0) partials[blockIdx.x] = squares;
}

__global__ void __launch_bounds__(threads_per_block)
    sum_partials(const ErrorRecord* errors, const double* partials, int64_t count, double* total) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += threads_per_block) sum += partials[i];
  add_to(total, block_sum<threads_per_block>(sum), errors);
}

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    scale_to_norm(const ErrorRecord* errors, T* x, int64_t count, const double* squares, double max_norm) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  XENT_SHARED(T, factor, 1);
  if (threadIdx.x == 0) {  // a square root and a division of doubles: once per block
    const double share = max_norm / (std::sqrt(*squares) + 1e-6);
    factor[0] = static_cast<T>(share >= 1 ? 1 : share);  // NaN stays
  }
  __syncthreads();
  const T scale = factor[0];
  if (scale == 1) return;
  for (int64_t i = first_index(); i < count; i += grid_stride()) x[i] *= scale;
}

}  // namespace

size_t accumulate_squares_workspace(const Call& call) {
  const int64_t blocks = blocks_of_sum(call.in[1].shape.elements());
  return blocks > 1 ? static_cast<size_t>(blocks) * sizeof(double) : 0;
}

void accumulate_squares(const Call& call) {
  const Slice& x = call.in[1];
  const int64_t count = x.shape.elements(), blocks = blocks_of_sum(count);
  auto *total = call.in[0].as<double>(), *partials = static_cast<double*>(call.workspace);
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "accumulate_squares", {static_cast<unsigned>(blocks), threads_per_block, 0, threads_per_block},
          sum_squares<T>, errors_of(call), x.as<T>(), count, partials, total);
  });
  if (blocks > 1)
    start(call, "accumulate_squares", {1, threads_per_block, 0, threads_per_block}, sum_partials, errors_of(call),
          partials, blocks, total);
}

void clip_to_norm(const Call& call) {
  const Slice& x = call.in[0];
  const int64_t count = x.shape.elements();
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "clip_to_norm", {blocks_for(count), threads_per_block, 0, threads_per_block}, scale_to_norm<T>,
          errors_of(call), x.as<T>(), count, call.in[1].as<double>(), call.attrs.as<ClipAttrs>().max_norm);
  });
}

}  // namespace xent::cuda
