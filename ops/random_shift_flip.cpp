// random_shift_flip:  y[n, i, j] = x[n, i - down, from(j - right)], or `fill` where that is outside of the image
//                     from(k) = width - 1 - k if flipped, else k        dx: the same, moved back, with a fill of 0
//
// Image n takes Philox block next + n: word 0 is for `down`, word 1 for `right`, and the lowest bit of word 2 flips. A
// shift of up to s is word (2 s + 1) / 2^32, rounded down, less s: each of the 2 s + 1 amounts comes from as many words
// as any other, give or take one. The generator's state, i64 [2] = {seed, next}, is advanced on its device. A second
// output, i32 [batch, 3] = {down, right, flip}, keeps the draws: all that backward reads.
#include <algorithm>
#include <cmath>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/ops.h>
#include <xent/ops/random_shift_flip.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t elements_per_chunk = 1 << 16;
constexpr int64_t draws_per_chunk = 1 << 12;

Specs infer_random_shift_flip(std::span<const Spec> in, const Attrs& attrs) {
  constexpr int64_t most = int64_t{1} << 30;  // so that 2 s + 1 is a 32-bit number, and a draw an i32
  const Spec &x = in[0], &state = in[1];
  const ShiftFlipOptions& o = attrs.as<ShiftFlipAttrs>().options;
  require_computable("random_shift_flip", x);
  require<ShapeError>(x.shape.rank() == 4,
                      "random_shift_flip: images {}; they must be [batch, height, width, channels]", x.shape);
  const int64_t height = std::min(x.shape[1], most), width = std::min(x.shape[2], most);
  require<ArgumentError>(
      o.shift.height >= 0 && o.shift.height <= height && o.shift.width >= 0 && o.shift.width <= width,
      "random_shift_flip: shifts by up to {} rows and {} columns of images {}; they must be in [0, {}] and [0, {}]",
      o.shift.height, o.shift.width, x.shape, height, width);
  const bool fits = dispatch_compute(x.dtype, [&]<class T>() { return std::isfinite(convert<T>(o.fill)); });
  require<ArgumentError>(fits, "random_shift_flip: a fill of {}; it must be finite in {}", o.fill, x.dtype);
  require<DTypeError>(state.dtype == DType::i64 && state.shape == Shape{2},
                      "random_shift_flip: the generator's state is {} {}; it must be i64 [2]", state.dtype,
                      state.shape);
  return {x, {{x.shape[0], 3}, DType::i32}};
}

}  // namespace

namespace cpu {

// to[j] = from[j - right], or from[width - 1 - (j - right)] if flipped, for pixels of `channels` elements.
template <class T>
void move_row(const T* from, T* to, int64_t width, int64_t channels, const ShiftFlipDraw& draw, T fill) {
  const int64_t begin = std::clamp<int64_t>(draw.right, 0, width);
  const int64_t end = std::clamp<int64_t>(width + draw.right, 0, width);
  std::fill(to, to + begin * channels, fill);
  if (!draw.flip) {
    std::copy_n(from + (begin - draw.right) * channels, (end - begin) * channels, to + begin * channels);
  } else if (channels == 1) {  // half the time of the general case
    std::reverse_copy(from + (width - end + draw.right), from + (width - begin + draw.right), to + begin);
  } else {
    for (int64_t j = begin; j < end; ++j)
      std::copy_n(from + (width - 1 - (j - draw.right)) * channels, channels, to + j * channels);
  }
  std::fill(to + end * channels, to + width * channels, fill);
}

// Moves every image by what draw_of(image) says.
template <class T, class DrawOf>
void move(const T* x, T* y, const Shape& shape, T fill, const DrawOf& draw_of) {
  if (shape.elements() == 0) return;
  const int64_t height = shape[1], width = shape[2], channels = shape[3], row_size = width * channels;
  const int64_t grain = std::max<int64_t>(1, elements_per_chunk / row_size);
  parallel_for(shape[0] * height, grain, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const ShiftFlipDraw draw = draw_of(row / height);
      const int64_t above = row % height - draw.down;  // the row that comes here
      T* to = y + row * row_size;
      if (above >= 0 && above < height) move_row(x + (row - draw.down) * row_size, to, width, channels, draw, fill);
      else std::fill(to, to + row_size, fill);
    }
  });
}

ShiftFlipDraw draw_at(const int32_t* draws, int64_t image) {
  return {draws[3 * image], draws[3 * image + 1], draws[3 * image + 2]};
}

void random_shift_flip(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  const ShiftFlipOptions& o = call.attrs.as<ShiftFlipAttrs>().options;
  auto* state = call.in[1].as<int64_t>();
  auto* draws = call.out[1].as<int32_t>();
  const int64_t images = x.shape[0];
  const auto seed = static_cast<uint64_t>(state[0]), next = static_cast<uint64_t>(state[1]);
  parallel_for(images, draws_per_chunk, [=](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      const ShiftFlipDraw draw = draw_from(philox_block(seed, next + static_cast<uint64_t>(image)), o);
      draws[3 * image] = draw.down;
      draws[3 * image + 1] = draw.right;
      draws[3 * image + 2] = draw.flip;
    }
  });
  state[1] = static_cast<int64_t>(next + static_cast<uint64_t>(images));
  dispatch_compute(x.dtype, [&]<class T>() {
    move(x.as<T>(), y.as<T>(), x.shape, convert<T>(o.fill), [=](int64_t image) { return draw_at(draws, image); });
  });
}

void random_shift_flip_grad(const Call& call) {
  const Slice &dy = call.grad_out[0], &dx = call.grad_in[0];
  const auto* draws = call.out[1].as<int32_t>();
  dispatch_compute(dx.dtype, [&]<class T>() {
    move(dy.as<T>(), dx.as<T>(), dx.shape, T(0), [=](int64_t image) { return undo(draw_at(draws, image)); });
  });
}

}  // namespace cpu

namespace {

// A state close to where its lower 32 bits overflow; shifts of the whole image; several chunks of rows.
Samples random_shift_flip_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, const ShiftFlipOptions& options, int64_t next = 7) {
    return Sample{{normal_sample(shape, dtype, 1), Tensor::from<int64_t>({42, next}, {2})}, ShiftFlipAttrs{options}};
  };
  return {sample({9, 5, 4, 3}, {.shift = 2, .flip = true, .fill = -0.5}, 0xFFFFFFFC),
          sample({6, 4, 7, 1}, {.shift = {4, 7}, .flip = true}), sample({4, 3, 3, 2}, {.flip = true}),
          sample({5, 3, 1, 2}, {.shift = {1, 0}, .fill = 2}), sample({70, 40, 50, 1}, {.shift = 3, .flip = true})};
}

}  // namespace

constinit const Op random_shift_flip_op = {
    .name = "random_shift_flip",
    .formula = "y[n] = x[n], mirrored or not, moved by up to `shift`",
    .inputs = 2,
    .infer = infer_random_shift_flip,
    .forward = {cpu::random_shift_flip, ON_CUDA(random_shift_flip)},
    .backward = {cpu::random_shift_flip_grad, ON_CUDA(random_shift_flip_grad)},
    .needs_in = nothing,
    .needs_out = 0b10,
    .differentiable = 0b01,
    .differentiable_out = 0b01,
    .updates = 0b10,
    .samples = random_shift_flip_samples,
};

Tensor random_shift_flip(const Tensor& x, const ShiftFlipOptions& options, Generator& generator) {
  return apply(random_shift_flip_op, {x, generator.state()}, ShiftFlipAttrs{options})[0];
}

}  // namespace xent
