// The blocks of rows and the parts of the work depend on the problem only, and each part sums in order: the bits are
// the same for any number of threads.
#include <xent/ops/cpu/direct_convolution.h>

#include <algorithm>
#include <type_traits>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/direct_kernel.h>
#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/places.h>

namespace xent::cpu {

namespace {

constexpr int64_t widest_panel = 32;

template <class T>
struct Kernels {
  const DirectKernel<T>* direct;
  const GemmKernel<T>* products;
};
template <class T>
Kernels<T> kernels() {
#if defined(XENT_WIDE_KERNELS)
  constexpr bool single = std::is_same_v<T, float>;
  if (instruction_set() == InstructionSet::avx512) {
    if constexpr (single) return {&avx512::direct_f32, &avx512::gemm_f32};
    else return {&avx512::direct_f64, &avx512::gemm_f64};
  }
  if (instruction_set() == InstructionSet::avx2) {
    if constexpr (single) return {&avx2::direct_f32, &avx2::gemm_f32};
    else return {&avx2::direct_f64, &avx2::gemm_f64};
  }
#endif
  return {nullptr, nullptr};
}

// Calls body(first column, columns) for the panels of a product's right side.
template <class T, class Body>
void each_panel(int64_t columns, const Body& body) {
  const int64_t width = kernels<T>().products->width;
  for (int64_t column = 0; column < columns; column += width) body(column, std::min(width, columns - column));
}

// Columns to whole panels, and scratch to whole lines of the cache: vectors that straddle two are slow.
int64_t pad(int64_t elements) { return (elements + widest_panel - 1) / widest_panel * widest_panel; }

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
  return kernels<T>().direct && !c.pointwise() && c.out_width >= 4 && c.height > 0 && c.width > 0 &&
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
  const int64_t lanes = kernels<T>().products->width / 2, filled = (c.in + lanes - 1) / lanes * lanes;
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
// Each adds to the gradient of the weight. Where that is small, blocks are of a row or so: dz, and y and dy of the next
// one, which are fetched meanwhile, then fit into the first-level cache. Not where the images' gradient may be wanted
// or not: the weight's would be summed in another order.
template <class T>
auto DirectConvolution<T>::backward_blocks(bool images) const -> Blocks {
  const int64_t line = std::max(c_.stride.height * x_band().line(), dz_band(images).line());
  const bool small = !serves_images(c_) && c_.depth() * c_.out <= 1 << 11;
  return blocks(images ? c_.height : c_.out_height, line, small ? 1 << 10 : 1 << 14);
}

template <class T>
int64_t DirectConvolution<T>::forward_parts() const {
  return std::min(c_.parts(c_.pixels() / 256), c_.batch * forward_blocks().per_image);
}
template <class T>
int64_t DirectConvolution<T>::backward_parts(bool images) const {
  constexpr int64_t most_elements = 1 << 21;  // of all partial gradients of the weight
  return std::min({c_.parts(c_.pixels() / 256), c_.batch * backward_blocks(images).per_image,
                   std::max<int64_t>(1, most_elements / (c_.depth() * c_.out))});
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
    kernels<T>().products->pack({weight + column, c_.out, c_.depth(), columns, false, nullptr},
                                panels + c_.depth() * column);
  });
}

// The weight as the images' gradient has it: the last tap first, and every tap transposed.
template <class T>
void DirectConvolution<T>::pack_flipped(const T* weight, T* panels) const {
  const int64_t count = c_.kernel_height * c_.kernel_width;
  each_panel<T>(c_.in, [&](int64_t column, int64_t columns) {
    const int64_t panel_width = kernels<T>().products->packed_width(columns);
    for (int64_t tap = 0; tap < count; ++tap)
      kernels<T>().products->pack(
          {weight + ((count - 1 - tap) * c_.in + column) * c_.out, c_.out, c_.out, columns, true, nullptr},
          panels + count * c_.out * column + tap * c_.out * panel_width);
  });
}

template <class T>
int64_t DirectConvolution<T>::forward_scratch() const {
  return c_.depth() * pad(c_.out) + forward_parts() * x_band_elements(forward_blocks().most());
}

template <class T>
void DirectConvolution<T>::forward(const T* x, const T* weight, const Epilogue<T>& epilogue, T* y, T* scratch) const {
  const DirectKernel<T>& kernel = *kernels<T>().direct;
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

// The backward's scratch: the bias's sums as doubles, the flipped weight, and for every part a gradient of the weight
// and bands of x and of dz. Kernels read whole vectors of dz, and so beyond its end.
template <class T>
struct DirectConvolution<T>::Backward {
  const DirectConvolution& d;
  const Convolution& c = d.c_;
  bool images;  // whether dx is wanted
  Blocks blocks = d.backward_blocks(images);
  Band band = d.dz_band(images);
  int64_t parts = d.backward_parts(images), taps = c.kernel_height * c.kernel_width;
  int64_t sums = pad(c.out), weight = pad(c.depth() * c.out);
  int64_t flipped = images ? taps * c.out * pad(c.in) : 0;
  int64_t x_copy = d.x_band_elements(blocks.most() + (images ? c.padding.height : 0));
  int64_t dz = pad((blocks.most() + (images ? d.reach_.height : 0)) * band.line() + widest_panel);

  int64_t sums_elements() const { return parts * sums * static_cast<int64_t>(sizeof(double) / sizeof(T)); }
  int64_t elements() const { return sums_elements() + flipped + parts * (weight + x_copy + dz); }

  double* sums_of(T* scratch, int64_t part) const { return reinterpret_cast<double*>(scratch) + part * sums; }
  T* flipped_of(T* scratch) const { return scratch + sums_elements(); }
  T* weight_of(T* scratch, int64_t part) const { return flipped_of(scratch) + flipped + part * weight; }
  T* x_of(T* scratch, int64_t part) const { return weight_of(scratch, parts) + part * (x_copy + dz); }
  T* dz_of(T* scratch, int64_t part) const { return x_of(scratch, part) + x_copy; }

  // The rows of dz that a block has in its band, and those among them that no block before it had. Rows of dx read rows
  // of dz above and below, so that neighbours share some.
  struct Rows {
    int64_t image, top, bottom, fresh, fresh_end;
  };
  Rows rows_of(const Block& block) const {
    const int64_t shift = images ? c.padding.height : 0, reach = images ? d.reach_.height : 0;
    const int64_t bottom = block.last + shift, end = std::min(bottom, c.out_height);
    return {block.image, block.first + shift - reach, bottom, block.first == 0 ? 0 : std::min(block.first + shift, end),
            end};
  }

  // Forms a row of dz, with its padding, or of zeros if it is outside.
  void form(const Result& result, int64_t image, int64_t row, T* line) const {
    if (row < 0 || row >= band.height) {
      std::fill_n(line, band.line(), T(0));
      return;
    }
    const int64_t count = band.width * band.channels, edge = band.padding * band.channels;
    const int64_t from = image * band.image() + row * count;
    std::fill_n(line, edge, T(0));
    if (result.activation == Activation::none) std::copy_n(result.dy + from, count, line + edge);
    else activate_grad(result.activation, result.y + from, result.dy + from, line + edge, count);
    std::fill_n(line + edge + count, edge, T(0));
  }

  // Adds what fresh rows bring; meanwhile as many rows of y and dy after them are fetched.
  void weight_grad(const Rows& rows, const T* x, const Result& result, const T* lines, T* copy, T* to) const {
    DirectLines<T> over{.lines = rows.fresh_end - rows.fresh,
                        .pixels = c.out_width,
                        .a_pixel = c.stride.width * c.in,
                        .a_line = c.stride.height * d.x_band().line(),
                        .b_pixel = c.out,
                        .b_line = band.line()};
    const int64_t row = c.out_width * c.out, next = (rows.image * c.out_height + rows.fresh_end) * row;
    const bool more = next + over.lines * row <= c.pixels() * c.out;
    const DirectTaps taps_of_x = d.taps(d.x_band());
    const T* from = d.lines_of_x(x, rows.image, rows.fresh, over.lines, copy);
    const T* pixels = lines + (rows.fresh - rows.top) * band.line() + band.padding * c.out;
    each_panel<T>(c.out, [&](int64_t column, int64_t columns) {
      if (more) {
        over.next = result.dy + next + column;
        over.next_too = result.activation == Activation::none ? over.next : result.y + next + column;
      }
      kernels<T>().direct->multiply_pixels(columns, taps_of_x, over, from, pixels + column,
                                           {to + column, c.out, true, nullptr, false});
    });
  }

  void images_grad(const Block& block, const T* lines, const T* panels, const Gradient& dx) const {
    const DirectTaps taps_of_dz = d.taps(band);
    const int64_t row = c.width * c.in, rows = block.last - block.first;
    T* to = dx.to + (block.image * c.height + block.first) * row;
    each_panel<T>(c.in, [&](int64_t column, int64_t columns) {
      for (int64_t r = 0; r < rows; ++r)
        kernels<T>().direct->multiply(c.width, columns, taps_of_dz, lines + r * band.line(), c.out,
                                      panels + taps * c.out * column,
                                      {to + r * row + column, c.in, dx.beta != 0, nullptr, false});
    });
  }
};

template <class T>
int64_t DirectConvolution<T>::backward_scratch(bool images) const {
  return Backward{.d = *this, .images = images}.elements();
}

template <class T>
void DirectConvolution<T>::backward(const T* x, const T* weight, const Result& result, const Gradient& dx,
                                    const Gradient& dweight, const Gradient& dbias, T* scratch) const {
  const Backward of{.d = *this, .images = dx.to != nullptr};
  const int64_t parts = of.parts, count = c_.batch * of.blocks.per_image, edge = of.band.padding * c_.out;
  if (dx.to) pack_flipped(weight, of.flipped_of(scratch));
  Places places;
  parallel_chunks(parts, [&](int64_t part) {
    const Places::Place place(places);
    double* sums = of.sums_of(scratch, part);
    T *partial = of.weight_of(scratch, part), *dz = of.dz_of(scratch, place.index());
    std::fill_n(sums, of.sums, 0.0);
    std::fill_n(partial, of.weight, T(0));
    for (int64_t i = part * count / parts; i < (part + 1) * count / parts; ++i) {
      const auto rows = of.rows_of(of.blocks[i]);
      for (int64_t row = rows.top; row < rows.bottom; ++row) {
        T* line = dz + (row - rows.top) * of.band.line();
        of.form(result, rows.image, row, line);
        if (dbias.to && rows.fresh <= row && row < rows.fresh_end)
          kernels<T>().direct->sum(c_.out_width, c_.out, line + edge, sums);
      }
      if (dweight.to && rows.fresh < rows.fresh_end)
        of.weight_grad(rows, x, result, dz, of.x_of(scratch, place.index()), partial);
      if (dx.to) of.images_grad(of.blocks[i], dz, of.flipped_of(scratch), dx);
    }
  });
  if (dweight.to)
    parallel_for(c_.depth() * c_.out, 1 << 14, [&](int64_t begin, int64_t end) {
      if (dweight.beta == 0) std::fill(dweight.to + begin, dweight.to + end, T(0));
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t i = begin; i < end; ++i) dweight.to[i] += of.weight_of(scratch, part)[i];
    });
  for (int64_t o = 0; o < c_.out && dbias.to; ++o) {
    double total = dbias.beta == 0 ? 0 : static_cast<double>(dbias.to[o]);
    for (int64_t part = 0; part < parts; ++part) total += of.sums_of(scratch, part)[o];
    dbias.to[o] = static_cast<T>(total);
  }
}

template class DirectConvolution<float>;
template class DirectConvolution<double>;

}  // namespace xent::cpu
