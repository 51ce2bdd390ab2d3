// random_shift_flip on CUDA; ops/random_shift_flip.cpp has the formula. One block draws for all images, which are few,
// and advances the state {seed, next}; then a warp moves a row at a time, 8 bytes per element of f32. Elements are
// copied, so the bits are the CPU's. Backward reads the draws and moves the gradient back.
#include <cstdint>

#include <xent/core/convert.h>
#include <xent/cuda/call.cuh>
#include <xent/ops/random_shift_flip.h>

namespace xent::cuda {

namespace {

constexpr unsigned rows_per_block = threads_per_block / 32;

__global__ void __launch_bounds__(threads_per_block)
    draw(const ErrorRecord* errors, int64_t* state, int32_t* draws, int64_t images, ShiftFlipOptions options) {
  const auto seed = static_cast<uint64_t>(state[0]), next = static_cast<uint64_t>(state[1]);
  for (int64_t image = threadIdx.x; image < images; image += threads_per_block) {
    const ShiftFlipDraw draw = draw_from(philox_block(seed, next + static_cast<uint64_t>(image)), options);
    draws[3 * image] = draw.down;
    draws[3 * image + 1] = draw.right;
    draws[3 * image + 2] = draw.flip;
  }
  __syncthreads();  // all have read the state
  if (threadIdx.x > 0 || errors->kind != ErrorRecord::Kind::none) return;
  state[1] = static_cast<int64_t>(next + static_cast<uint64_t>(images));
}

// y[row, j] = x[row - down, j - right], mirrored if the image is, or fill where that is outside; for pixels of
// `channels` elements.
template <class T>
__global__ void __launch_bounds__(threads_per_block)
    move(const T* x, T* y, const int32_t* draws, int64_t rows, int64_t height, int64_t width, int64_t channels, T fill,
         bool back) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * rows_per_block, row_size = width * channels;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * rows_per_block + threadIdx.y; row < rows; row += step) {
    const int32_t* const drawn = draws + 3 * (row / height);
    ShiftFlipDraw draw{drawn[0], drawn[1], drawn[2]};
    if (back) draw = undo(draw);
    const int64_t above = row % height - draw.down;  // the row that comes here
    const bool inside = above >= 0 && above < height;
    const int64_t from = (row - draw.down) * row_size;
    for (int64_t k = threadIdx.x; k < row_size; k += 32) {
      const int64_t column = channels == 1 ? k : k / channels, left = column - draw.right;
      const int64_t source = draw.flip ? width - 1 - left : left;
      y[row * row_size + k] = inside && left >= 0 && left < width ? x[from + k + (source - column) * channels] : fill;
    }
  }
}

template <class T>
void start_move(const Call& call, const T* x, T* y, const Shape& shape, T fill, bool back) {
  if (shape.elements() == 0) return;
  const int64_t rows = shape[0] * shape[1];
  start(call, "random_shift_flip", {blocks_for(rows, rows_per_block), dim3(32, rows_per_block), 0, threads_per_block},
        move<T>, x, y, call.out[1].as<int32_t>(), rows, shape[1], shape[2], shape[3], fill, back);
}

}  // namespace

void random_shift_flip(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  const ShiftFlipOptions& options = call.attrs.as<ShiftFlipAttrs>().options;
  start(call, "random_shift_flip", {1, threads_per_block, 0, threads_per_block}, draw, errors_of(call),
        call.in[1].as<int64_t>(), call.out[1].as<int32_t>(), x.shape[0], options);
  dispatch_compute(
      x.dtype, [&]<class T>() { start_move(call, x.as<T>(), y.as<T>(), x.shape, convert<T>(options.fill), false); });
}

void random_shift_flip_grad(const Call& call) {
  const Slice &dy = call.grad_out[0], &dx = call.grad_in[0];
  dispatch_compute(dx.dtype, [&]<class T>() { start_move(call, dy.as<T>(), dx.as<T>(), dx.shape, T(0), true); });
}

}  // namespace xent::cuda
