// The gradients of a direct convolution: dz is formed for a few rows at a time, and all three are taken from it while
// it is in the cache.
#include <algorithm>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/direct_convolution.h>
#include <xent/ops/cpu/places.h>
#include <xent/ops/cpu/product_kernels.h>

namespace xent::cpu {

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
int64_t DirectConvolution<T>::backward_parts(bool images) const {
  constexpr int64_t most_elements = 1 << 21;  // of all partial gradients of the weight
  return std::min({c_.parts(c_.pixels() / 256), c_.batch * backward_blocks(images).per_image,
                   std::max<int64_t>(1, most_elements / (c_.depth() * c_.out))});
}

// The weight as the images' gradient has it: the last tap first, and every tap transposed.
template <class T>
void DirectConvolution<T>::pack_flipped(const T* weight, T* panels) const {
  const int64_t count = c_.kernel_height * c_.kernel_width;
  each_panel<T>(c_.in, [&](int64_t column, int64_t columns) {
    const int64_t panel_width = product_kernels<T>().gemm->packed_width(columns);
    for (int64_t tap = 0; tap < count; ++tap)
      product_kernels<T>().gemm->pack(
          {weight + ((count - 1 - tap) * c_.in + column) * c_.out, c_.out, c_.out, columns, true, nullptr},
          panels + count * c_.out * column + tap * c_.out * panel_width);
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
      product_kernels<T>().direct->multiply_pixels(columns, taps_of_x, over, from, pixels + column,
                                                   {to + column, c.out, true, nullptr, false});
    });
  }

  void images_grad(const Block& block, const T* lines, const T* panels, const Gradient& dx) const {
    const DirectTaps taps_of_dz = d.taps(band);
    const int64_t row = c.width * c.in, rows = block.last - block.first;
    T* to = dx.to + (block.image * c.height + block.first) * row;
    each_panel<T>(c.in, [&](int64_t column, int64_t columns) {
      for (int64_t r = 0; r < rows; ++r)
        product_kernels<T>().direct->multiply(c.width, columns, taps_of_dz, lines + r * band.line(), c.out,
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
          product_kernels<T>().direct->sum(c_.out_width, c_.out, line + edge, sums);
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

template void DirectConvolution<float>::backward(const float*, const float*, const Result&, const Gradient&,
                                                 const Gradient&, const Gradient&, float*) const;
template void DirectConvolution<double>::backward(const double*, const double*, const Result&, const Gradient&,
                                                  const Gradient&, const Gradient&, double*) const;
template int64_t DirectConvolution<float>::backward_scratch(bool) const;
template int64_t DirectConvolution<double>::backward_scratch(bool) const;

}  // namespace xent::cpu
