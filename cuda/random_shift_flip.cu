// random_shift_flip on CUDA; ops/random_shift_flip.cpp has the formula. One block draws for all images, which are few,
// and advances the state {seed, next}; then a warp moves a row at a time, 8 bytes per element of f32. Elements are
// copied, so the bits are the CPU's. Backward reads the draws and moves the gradient back.
#include <cstdint>

#include <xent/core/convert.h>
#include <xent/cuda/call.cuh>
#include <xent/cuda/row_limit.h>
#include <xent/ops/random_shift_flip.h>

namespace xent::cuda {

namespace {

constexpr unsigned rows_per_block = threads_per_block / 32;

__global__ void __launch_bounds__(threads_per_block)
    draw(const ErrorRecord* errors, int64_t* state, ShiftFlipDraw* draws, int images, ShiftFlipOptions options) {
  const auto seed = static_cast<uint64_t>(state[0]), next = static_cast<uint64_t>(state[1]);
  for (int image = static_cast<int>(threadIdx.x); image < images; image += static_cast<int>(threads_per_block))
    draws[image] = draw_from(philox_block(seed, next + static_cast<uint64_t>(image)), options);
  __syncthreads();  // all have read the state
  if (threadIdx.x > 0 || errors->kind != ErrorRecord::Kind::none) return;
  state[1] = static_cast<int64_t>(next + static_cast<uint64_t>(images));
}

struct ImageRows {
  int64_t count;
  int height, width, channels;

  explicit ImageRows(const Shape& images)
      : count(images[0] * images[1]),
        height(row_length("random_shift_flip", images, images[1], "rows in an image")),
        width(static_cast<int>(images[2])),
        channels(static_cast<int>(images[3])) {
    require_row("random_shift_flip", images, images[2] * images[3], "elements in a row");
  }
};

// y[row, j] = x[row - down, j - right], mirrored if the image is, or fill where that is outside; for pixels of
// `channels` elements. Places and shifts are 2^30 at most, and so are ints when they are added up.
template <class T>
__global__ void __launch_bounds__(threads_per_block)
    move(const T* x, T* y, const ShiftFlipDraw* draws, ImageRows rows, T fill, bool back) {
  const auto [count, height, width, channels] = rows;
  const int row_size = width * channels;
  const unsigned step = gridDim.x * rows_per_block;
  for (int64_t row = blockIdx.x * rows_per_block + threadIdx.y; row < count; row += step) {
    ShiftFlipDraw draw = draws[row / height];
    if (back) draw = undo(draw);
    const int above = static_cast<int>(row % height) - draw.down;  // the row that comes here
    const bool inside = above >= 0 && above < height;
    const int64_t from = (row - draw.down) * row_size;
    for (int k = static_cast<int>(threadIdx.x); k < row_size; k += 32) {
      const int column = channels == 1 ? k : k / channels, left = column - draw.right;
      const int source = draw.flip ? width - 1 - left : left;
      y[row * row_size + k] = inside && left >= 0 && left < width ? x[from + k + (source - column) * channels] : fill;
    }
  }
}

ShiftFlipDraw* draws_of(const Call& call) {
  static_assert(sizeof(ShiftFlipDraw) == 3 * sizeof(int32_t));
  return static_cast<ShiftFlipDraw*>(call.out[1].data);
}

template <class T>
void start_move(const Call& call, const Slice& x, const Slice& y, const ImageRows& rows, T fill, bool back) {
  if (x.shape.elements() == 0) return;
  start(call, "random_shift_flip",
        {blocks_for(rows.count, rows_per_block), dim3(32, rows_per_block), 0, threads_per_block}, move<T>, x.as<T>(),
        y.as<T>(), draws_of(call), rows, fill, back);
}

}  // namespace

void random_shift_flip(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  const ShiftFlipOptions& options = call.attrs.as<ShiftFlipAttrs>().options;
  const ImageRows rows(x.shape);
  const int images = row_length("random_shift_flip", x.shape, x.shape[0], "images");
  start(call, "random_shift_flip", {1, threads_per_block, 0, threads_per_block}, draw, errors_of(call),
        call.in[1].as<int64_t>(), draws_of(call), images, options);
  dispatch_compute(x.dtype, [&]<class T>() { start_move(call, x, y, rows, convert<T>(options.fill), false); });
}

void random_shift_flip_grad(const Call& call) {
  const Slice &dy = call.grad_out[0], &dx = call.grad_in[0];
  dispatch_compute(dx.dtype, [&]<class T>() { start_move(call, dy, dx, ImageRows(dx.shape), T(0), true); });
}

}  // namespace xent::cuda
