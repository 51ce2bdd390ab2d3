// The blocks of rows and the parts of the work depend on the problem only, and each part sums in order: the bits are
// the same for any number of threads.
#include <xent/ops/cpu/direct_convolution.h>

#include <algorithm>
#include <type_traits>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/direct_kernel.h>
#include <xent/ops/cpu/instruction_set.h>

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
// Padding beyond the reach of the kernel would make results, or bands of dz, that read nothing.
template <class T>
bool DirectConvolution<T>::serves(const Convolution& c) {
  constexpr int64_t most_band = 1 << 18, most_weight = 1 << 17;
  const Extent2d reach = reach_of(c);
  const auto fits = [](int64_t rows, int64_t columns, int64_t channels) {
    return rows <= most_band && columns <= most_band && channels <= most_band && rows * columns <= most_band &&
           rows * columns * channels <= most_band;
  };
  return kernels<T>().direct && !c.pointwise() && c.height > 0 && c.width > 0 && c.padding.height <= reach.height &&
         c.padding.width <= reach.width && fits(reach.height + 1, c.width + 2 * c.padding.width, c.in) &&
         fits(reach.height + 1, c.out_width + 2 * reach.width, c.out) && fits(1, c.stride.height, c.width) &&
         c.depth() <= most_weight && c.depth() * c.out <= most_weight;
}

template <class T>
bool DirectConvolution<T>::serves_images(const Convolution& c) {
  return serves(c) && c.stride == 1 && 4 * c.in >= kernels<T>().products->width;
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
auto DirectConvolution<T>::backward_blocks(bool images) const -> Blocks {
  const int64_t line = std::max(c_.stride.height * x_band().line(), dz_band(images).line());
  return blocks(images ? c_.height : c_.out_height, line, 1 << 14);
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
  const int64_t count = c_.kernel_height * c_.kernel_width, width = kernels<T>().products->width;
  each_panel<T>(c_.in, [&](int64_t column, int64_t columns) {
    const int64_t panel_width = columns <= width / 2 ? width / 2 : width;
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
  parallel_chunks(parts, [&](int64_t part) {
    for (int64_t i = part * count / parts; i < (part + 1) * count / parts; ++i) {
      const Block block = blocks[i];
      const int64_t rows = block.last - block.first;
      const T* from = lines_of_x(x, block.image, block.first, rows, bands + part * band);
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

// The scratch of backward: the bias's sums as doubles, the flipped weight, and for every part a gradient of the weight
// and bands of x and of dz. Kernels read whole vectors of dz, and so beyond its end.
template <class T>
struct DirectConvolution<T>::Grad {
  Blocks blocks;
  Band band;
  int64_t parts, sums, flipped, weight, x, dz;

  Grad(const DirectConvolution& d, bool images)
      : blocks(d.backward_blocks(images)),
        band(d.dz_band(images)),
        parts(d.backward_parts(images)),
        sums(pad(d.c_.out)),
        flipped(images ? d.c_.kernel_height * d.c_.kernel_width * d.c_.out * pad(d.c_.in) : 0),
        weight(pad(d.c_.depth() * d.c_.out)),
        x(d.x_band_elements(blocks.most() + (images ? d.c_.padding.height : 0))),
        dz(pad((blocks.most() + (images ? d.reach_.height : 0)) * band.line() + widest_panel)) {}

  int64_t sums_elements() const { return parts * sums * static_cast<int64_t>(sizeof(double) / sizeof(T)); }
  int64_t elements() const { return sums_elements() + flipped + parts * (weight + x + dz); }
};

template <class T>
int64_t DirectConvolution<T>::backward_scratch(bool images) const {
  return Grad(*this, images).elements();
}

// Forms a row of dz, with its padding, or of zeros if it is outside.
template <class T>
void DirectConvolution<T>::form(const Result& result, const Band& band, int64_t image, int64_t row, T* line) const {
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

template <class T>
void DirectConvolution<T>::backward(const T* x, const T* weight, const Result& result, const Gradient& dx,
                                    const Gradient& dweight, const Gradient& dbias, T* scratch) const {
  const DirectKernel<T>& kernel = *kernels<T>().direct;
  const bool images = dx.to != nullptr;
  const Grad grad(*this, images);
  const Band& band = grad.band;
  const int64_t parts = grad.parts, count = c_.batch * grad.blocks.per_image;
  auto* sums = reinterpret_cast<double*>(scratch);
  T* flipped = scratch + grad.sums_elements();
  T* partials = flipped + grad.flipped;
  T* bands = partials + parts * grad.weight;
  if (images) pack_flipped(weight, flipped);
  const DirectTaps x_taps = taps(x_band()), dz_taps = taps(band);
  parallel_chunks(parts, [&](int64_t part) {
    T* x_copy = bands + part * (grad.x + grad.dz);
    T* dz = x_copy + grad.x;
    std::fill_n(sums + part * grad.sums, grad.sums, 0.0);
    std::fill_n(partials + part * grad.weight, grad.weight, T(0));
    for (int64_t i = part * count / parts; i < (part + 1) * count / parts; ++i) {
      const auto [image, first, last] = grad.blocks[i];
      // Rows of dx read rows of dz above and below, which blocks share: each is summed in the first that has it.
      const int64_t top = images ? first + c_.padding.height - reach_.height : first;
      const int64_t bottom = images ? last + c_.padding.height : last;
      const int64_t fresh = std::min(images && first > 0 ? first + c_.padding.height : first, c_.out_height);
      const int64_t fresh_end = std::min(bottom, c_.out_height);
      for (int64_t row = top; row < bottom; ++row) {
        T* line = dz + (row - top) * band.line();
        form(result, band, image, row, line);
        if (dbias.to && fresh <= row && row < fresh_end)
          kernel.sum(c_.out_width, c_.out, line + band.padding * c_.out, sums + part * grad.sums);
      }
      if (dweight.to && fresh < fresh_end) {
        const DirectLines<T> lines{.lines = fresh_end - fresh,
                                   .pixels = c_.out_width,
                                   .a_pixel = c_.stride.width * c_.in,
                                   .a_line = c_.stride.height * x_band().line(),
                                   .b_pixel = c_.out,
                                   .b_line = band.line()};
        const T* from = lines_of_x(x, image, fresh, fresh_end - fresh, x_copy);
        const T* pixels = dz + (fresh - top) * band.line() + band.padding * c_.out;
        const int64_t next = (image * c_.out_height + fresh_end) * c_.out_width * c_.out;  // of y and dy
        const bool fetch = next + lines.lines * c_.out_width * c_.out <= c_.pixels() * c_.out;
        const T* y = result.activation == Activation::none ? result.dy : result.y;
        each_panel<T>(c_.out, [&](int64_t column, int64_t columns) {
          DirectLines<T> of_panel = lines;
          if (fetch && column == 0) of_panel.next = result.dy + next, of_panel.next_too = y + next;
          kernel.multiply_pixels(columns, x_taps, of_panel, from, pixels + column,
                                 {partials + part * grad.weight + column, c_.out, true, nullptr, false});
        });
      }
      if (images)
        each_panel<T>(c_.in, [&](int64_t column, int64_t columns) {
          for (int64_t row = first; row < last; ++row)
            kernel.multiply(
                c_.width, columns, dz_taps, dz + (row - first) * band.line(), c_.out,
                flipped + c_.kernel_height * c_.kernel_width * c_.out * column,
                {dx.to + (image * c_.height + row) * c_.width * c_.in + column, c_.in, dx.beta != 0, nullptr, false});
        });
    }
  });
  if (dweight.to)
    parallel_for(c_.depth() * c_.out, 1 << 14, [&](int64_t begin, int64_t end) {
      if (dweight.beta == 0) std::fill(dweight.to + begin, dweight.to + end, T(0));
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t i = begin; i < end; ++i) dweight.to[i] += partials[part * grad.weight + i];
    });
  for (int64_t o = 0; o < c_.out && dbias.to; ++o) {
    double total = dbias.beta == 0 ? 0 : static_cast<double>(dbias.to[o]);
    for (int64_t part = 0; part < parts; ++part) total += sums[part * grad.sums + o];
    dbias.to[o] = static_cast<T>(total);
  }
}

template class DirectConvolution<float>;
template class DirectConvolution<double>;

}  // namespace xent::cpu
