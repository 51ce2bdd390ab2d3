// The parts of the work depend on the problem only, and each sums its tiles in order: the bits are the same for any
// number of threads.
#include <xent/ops/cpu/winograd.h>

#include <algorithm>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/gemm_kernel.h>
#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/winograd_kernel.h>

namespace xent::cpu {

namespace {

constexpr int64_t tile = 4, reach = 6;  // sides, of a tile of the result and of what it is computed from
constexpr int64_t most_chunk = 96;      // tiles transformed at a time
constexpr int64_t widest_panel = 32;

int64_t pad(int64_t channels) { return (channels + 15) / 16 * 16; }

struct Kernels {
  const WinogradKernel* transforms;
  const GemmKernel<float>* products;
};
Kernels kernels() {
#if defined(XENT_WIDE_KERNELS)
  if (instruction_set() == InstructionSet::avx512) return {&avx512::winograd, &avx512::gemm_f32};
  if (instruction_set() == InstructionSet::avx2) return {&avx2::winograd, &avx2::gemm_f32};
#endif
  return {nullptr, nullptr};
}

// Calls body(first column, columns, columns as packed) for the panels that the product's kernel takes.
template <class Body>
void each_panel(int64_t columns, const Body& body) {
  const int64_t width = kernels().products->width;
  for (int64_t column = 0; column < columns; column += width) {
    const int64_t count = std::min(width, columns - column);
    body(column, count, count <= width / 2 ? width / 2 : width);
  }
}

// u = G g G' of a weight of so many rows and columns, every plane packed in panels. Taps are so many elements apart,
// and so are rows.
void transform_weight(const float* weight, int64_t tap, int64_t row, int64_t rows, int64_t columns, float* u) {
  const int64_t plane = rows * pad(columns);
  parallel_for(rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      each_panel(pad(columns), [&](int64_t column, int64_t count, int64_t width) {
        kernels().transforms->weight(weight + r * row + column, tap, std::min(count, columns - column),
                                     u + rows * column + r * width, plane);
      });
  });
}

// Calls body(tile of the chunk, image, row, column) for the tiles [begin, end).
template <class Body>
void each_tile(int64_t begin, int64_t end, int64_t rows, int64_t columns, const Body& body) {
  for (int64_t t = begin; t < end; ++t) body(t - begin, t / (rows * columns), t / columns % rows, t % columns);
}

// The square of so many pixels a side whose corner is at a row and column of image n.
WinogradPatch patch(int64_t side, int64_t n, int64_t row, int64_t column, int64_t height, int64_t width,
                    int64_t channels) {
  const auto first = [&](int64_t at) { return std::clamp<int64_t>(-at, 0, side); };
  const auto last = [&](int64_t at, int64_t extent) { return std::clamp<int64_t>(extent - at, 0, side); };
  return {((n * height + row) * width + column) * channels,
          width * channels,
          channels,
          first(row),
          last(row, height),
          first(column),
          last(column, width)};
}

}  // namespace

bool Winograd::serves(const Convolution& c) {
  if (!kernels().transforms || c.kernel_height != 3 || c.kernel_width != 3 || !(c.stride == 1) || !(c.dilation == 1))
    return false;
  constexpr int64_t most_weight = 1 << 16;  // channels in times out: 36 planes of them are kept by every part
  if (c.in < 16 || c.out < 16 || c.in > most_weight || c.out > most_weight || pad(c.in) * pad(c.out) > most_weight)
    return false;
  const auto filled = [](int64_t used, int64_t unit) {
    return static_cast<double>(used) / static_cast<double>((used + unit - 1) / unit * unit);
  };
  constexpr double least = 0.5;  // of a fourfold gain
  return c.pixels() >= 16 * tile * tile &&
         filled(c.out_height, tile) * filled(c.out_width, tile) * filled(c.in, 16) * filled(c.out, 16) >= least;
}

Winograd::Winograd(const Convolution& c)
    : c_(c),
      in_(pad(c.in)),
      out_(pad(c.out)),
      tile_rows_((c.out_height + tile - 1) / tile),
      tile_columns_((c.out_width + tile - 1) / tile) {
  constexpr int64_t cached = 1 << 17;  // elements of a chunk's planes: 512 KiB
  chunk_ = std::clamp<int64_t>(cached / (planes * (in_ + out_)), 24, most_chunk) / 12 * 12;
}

int64_t Winograd::backward_parts() const {
  constexpr int64_t most_elements = 1 << 24;  // of gradients of the weight
  return std::min(c_.parts(c_.batch), std::max<int64_t>(1, most_elements / gradient_planes()));
}

void Winograd::forward(const float* x, const float* weight, const Epilogue<float>& epilogue, float* y,
                       float* scratch) const {
  const auto [transforms, products] = kernels();
  float* u = scratch;
  transform_weight(weight, c_.in * c_.out, c_.out, c_.in, c_.out, u);
  const int64_t parts = forward_parts(), chunks = (tiles() + chunk_ - 1) / chunk_;
  const bool relu = epilogue.activation == Activation::relu;
  parallel_chunks(parts, [&](int64_t part) {
    float* v = scratch + weight_planes() + part * chunk_planes();
    float* m = v + planes * image_plane();
    for (int64_t chunk = part * chunks / parts; chunk < (part + 1) * chunks / parts; ++chunk) {
      const int64_t begin = chunk * chunk_, end = std::min(tiles(), begin + chunk_);
      each_tile(begin, end, tile_rows_, tile_columns_, [&](int64_t t, int64_t n, int64_t row, int64_t column) {
        transforms->image(x,
                          patch(reach, n, tile * row - c_.padding.height, tile * column - c_.padding.width, c_.height,
                                c_.width, c_.in),
                          v + t * in_, image_plane());
      });
      for (int64_t p = 0; p < planes; ++p)
        each_panel(out_, [&](int64_t column, int64_t columns, int64_t) {
          products->multiply(end - begin, columns, c_.in, v + p * image_plane(), in_, 1,
                             u + (p * out_ + column) * c_.in, false, m + p * result_plane() + column, out_);
        });
      each_tile(begin, end, tile_rows_, tile_columns_, [&](int64_t t, int64_t n, int64_t row, int64_t column) {
        const WinogradPatch to = patch(tile, n, tile * row, tile * column, c_.out_height, c_.out_width, c_.out);
        transforms->result(m + t * out_, result_plane(), to, epilogue.bias, relu, y);
        if (epilogue.activation == Activation::none || relu) return;
        for (int64_t i = 0; i < to.last_row; ++i)
          activate(epilogue.activation, y + to.at + i * to.line, to.last_column * c_.out);
      });
    }
  });
}

void Winograd::backward(const float* x, const float* dz, const float* transposed, const Gradient& dx,
                        const Gradient& dweight, float* scratch) const {
  const auto [transforms, products] = kernels();
  float* u = scratch;
  float* du = u + transposed_planes();
  float* chunks = du + backward_parts() * gradient_planes();
  if (dx.to) transform_weight(transposed, c_.in, 9 * c_.in, c_.out, c_.in, u);
  const int64_t parts = backward_parts(), image = c_.height * c_.width * c_.in;
  parallel_chunks(parts, [&](int64_t part) {
    alignas(64) float panel[most_chunk * widest_panel];
    float* v = chunks + part * chunk_planes();
    float* w = v + planes * image_plane();
    const int64_t first = part * c_.batch / parts * image_tiles(), last = (part + 1) * c_.batch / parts * image_tiles();
    for (int64_t begin = first; begin < last; begin += chunk_) {
      const int64_t end = std::min(last, begin + chunk_), count = end - begin;
      const auto pixels = [&](int64_t n, int64_t row, int64_t column) {
        return patch(reach, n, tile * row - c_.padding.height, tile * column - c_.padding.width, c_.height, c_.width,
                     c_.in);
      };
      each_tile(begin, end, tile_rows_, tile_columns_, [&](int64_t t, int64_t n, int64_t row, int64_t column) {
        transforms->result_grad(dz, patch(tile, n, tile * row, tile * column, c_.out_height, c_.out_width, c_.out),
                                w + t * out_, result_plane());
        if (dweight.to) transforms->image(x, pixels(n, row, column), v + t * in_, image_plane());
      });
      for (int64_t p = 0; p < planes; ++p) {
        float *vp = v + p * image_plane(), *wp = w + p * result_plane();
        if (dweight.to)
          each_panel(out_, [&](int64_t column, int64_t columns, int64_t width) {
            for (int64_t t = 0; t < count; ++t) std::copy_n(wp + t * out_ + column, columns, panel + t * width);
            products->multiply(c_.in, columns, count, vp, 1, in_, panel, begin > first,
                               du + part * gradient_planes() + p * c_.in * out_ + column, out_);
          });
        if (dx.to)  // in the place of V, which has served
          each_panel(in_, [&](int64_t column, int64_t columns, int64_t) {
            products->multiply(count, columns, c_.out, wp, out_, 1, u + (p * in_ + column) * c_.out, false, vp + column,
                               in_);
          });
      }
      if (dx.to)
        each_tile(begin, end, tile_rows_, tile_columns_, [&](int64_t t, int64_t n, int64_t row, int64_t column) {
          if (row == 0 && column == 0 && dx.beta == 0) std::fill_n(dx.to + n * image, image, 0.0f);
          transforms->image_grad(v + t * in_, image_plane(), pixels(n, row, column), dx.to);
        });
    }
  });
  if (dweight.to)
    parallel_for(c_.in, 4, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        transforms->weight_grad(du + r * out_, c_.in * out_, gradient_planes(), parts, c_.out, dweight.beta != 0,
                                dweight.to + r * c_.out, c_.in * c_.out);
    });
}

}  // namespace xent::cpu
