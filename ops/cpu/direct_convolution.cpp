// The blocks of rows and the parts of the work depend on the problem only, and each part sums in order: the bits are
// the same for any number of threads.
#include <xent/ops/cpu/direct_convolution.h>

#include <algorithm>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/places.h>
#include <xent/ops/cpu/product_kernels.h>

namespace xent::cpu {

namespace {

Extent2d reach_of(const Convolution& c) {
  return {(c.kernel_height - 1) * c.dilation.height, (c.kernel_width - 1) * c.dilation.width};
}

}  // namespace

// Bands of rows are for the cache, and a weight is read once for each row of the result: both have to be small enough.
// A block is of one image, and reads and writes a gradient of the weight: an image needs pixels to pay for that, and
// its rows enough to fill a tile. Padding beyond the reach of the kernel would make bands that nothing reads.
template <class T>
bool DirectConvolution<T>::serves(const Convolution& c) {
  constexpr int64_t most_band = 1 << 18, most_weight = 1 << 17;
  const Extent2d reach = reach_of(c);
  const auto fits = [](int64_t rows, int64_t columns, int64_t channels) {
    return rows <= most_band && columns <= most_band && channels <= most_band && rows * columns <= most_band &&
           rows * columns * channels <= most_band;
  };
  return product_kernels<T>().direct && !c.pointwise() && c.out_width >= 4 && c.height > 0 && c.width > 0 &&
         c.padding.height <= reach.height && c.padding.width <= reach.width &&
         fits(reach.height + 1, c.width + 2 * c.padding.width, c.in) &&
         fits(reach.height + 1, c.out_width + 2 * reach.width, c.out) && fits(1, c.stride.height, c.width) &&
         c.depth() <= most_weight && c.depth() * c.out <= most_weight &&
         c.image_pixels() >= 16 + c.depth() * c.out / 200;
}

// Few channels leave vectors empty, and a small result has mostly padding in its bands: patches have neither.
template <class T>
bool DirectConvolution<T>::serves_images(const Convolution& c) {
  if (!serves(c) || !(c.stride == 1) || c.width < 4) return false;
  constexpr double least = 0.4;  // of the multiplications have to be needed
  const int64_t lanes = product_kernels<T>().gemm->width / 2, filled = (c.in + lanes - 1) / lanes * lanes;
  return static_cast<double>(c.in * c.image_pixels()) >= least * static_cast<double>(filled * c.height * c.width);
}

template <class T>
DirectConvolution<T>::DirectConvolution(const Convolution& c) : c_(c), reach_(reach_of(c)) {}

// Blocks of rows that are about equally high, and have about so many elements.
template <class T>
auto DirectConvolution<T>::blocks(int64_t rows, int64_t line, int64_t most_elements) -> Blocks {
  const int64_t most = std::clamp<int64_t>(most_elements / std::max<int64_t>(line, 1), 1, rows);
  return {rows, (rows + most - 1) / most};
}
template <class T>
auto DirectConvolution<T>::forward_blocks() const -> Blocks {
  return blocks(c_.out_height, std::max(c_.stride.height * x_band().line(), c_.out_width * c_.out), 1 << 14);
}
template <class T>
int64_t DirectConvolution<T>::forward_parts() const {
  return std::min(c_.parts(c_.pixels() / 256), c_.batch * forward_blocks().per_image);
}
template <class T>
int64_t DirectConvolution<T>::x_band_elements(int64_t rows) const {
  return c_.padding == 0 ? 0 : pad(x_rows(rows) * x_band().line());
}

template <class T>
DirectTaps DirectConvolution<T>::taps(const Band& of) const {
  const bool runs = c_.dilation.width == 1;
  return {.rows = c_.kernel_height,
          .columns = runs ? 1 : c_.kernel_width,
          .run = runs ? c_.kernel_width * of.channels : of.channels,
          .row_step = c_.dilation.height * of.line(),
          .column_step = c_.dilation.width * of.channels};
}

// Returns what so many rows of the result read of an image: where it is, or copied to the band, with the padding.
template <class T>
const T* DirectConvolution<T>::lines_of_x(const T* x, int64_t image, int64_t first, int64_t rows, T* band) const {
  const Band of = x_band();
  const int64_t top = first * c_.stride.height - c_.padding.height, row = c_.width * c_.in, edge = of.padding * c_.in;
  const T* from = x + image * of.image();
  if (c_.padding == 0) return from + top * row;
  T* to = band;
  for (int64_t y = top; y < top + x_rows(rows); ++y, to += of.line()) {
    if (y < 0 || y >= c_.height) {
      std::fill_n(to, of.line(), T(0));
      continue;
    }
    std::fill_n(to, edge, T(0));
    std::copy_n(from + y * row, row, to + edge);
    std::fill_n(to + edge + row, edge, T(0));
  }
  return band;
}

template <class T>
void DirectConvolution<T>::pack(const T* weight, T* panels) const {
  each_panel<T>(c_.out, [&](int64_t column, int64_t columns) {
    product_kernels<T>().gemm->pack({weight + column, c_.out, c_.depth(), columns, false, nullptr},
                                    panels + c_.depth() * column);
  });
}

template <class T>
int64_t DirectConvolution<T>::forward_scratch() const {
  return c_.depth() * pad(c_.out) + forward_parts() * x_band_elements(forward_blocks().most());
}

template <class T>
void DirectConvolution<T>::forward(const T* x, const T* weight, const Epilogue<T>& epilogue, T* y, T* scratch) const {
  const DirectKernel<T>& kernel = *product_kernels<T>().direct;
  const Blocks blocks = forward_blocks();
  const DirectTaps taps = this->taps(x_band());
  const int64_t parts = forward_parts(), count = c_.batch * blocks.per_image, row = c_.out_width * c_.out;
  const int64_t band = x_band_elements(blocks.most()), line = c_.stride.height * x_band().line();
  T* panels = scratch;
  T* bands = scratch + c_.depth() * pad(c_.out);
  pack(weight, panels);
  const bool relu = epilogue.activation == Activation::relu;
  Places places;
  parallel_chunks(parts, [&](int64_t part) {
    const Places::Place place(places);
    for (int64_t i = part * count / parts; i < (part + 1) * count / parts; ++i) {
      const Block block = blocks[i];
      const int64_t rows = block.last - block.first;
      const T* from = lines_of_x(x, block.image, block.first, rows, bands + place.index() * band);
      T* to = y + (block.image * c_.out_height + block.first) * row;
      each_panel<T>(c_.out, [&](int64_t column, int64_t columns) {
        for (int64_t r = 0; r < rows; ++r)
          kernel.multiply(
              c_.out_width, columns, taps, from + r * line, c_.stride.width * c_.in, panels + c_.depth() * column,
              {to + r * row + column, c_.out, false, epilogue.bias ? epilogue.bias + column : nullptr, relu});
      });
      if (!relu) activate(epilogue.activation, to, rows * row);
    }
  });
}

template class DirectConvolution<float>;
template class DirectConvolution<double>;

}  // namespace xent::cpu
