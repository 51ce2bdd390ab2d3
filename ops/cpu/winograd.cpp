// The parts of the work depend on the problem only, and each sums its tiles in order: the bits are the same for any
// number of threads.
#include <xent/ops/cpu/winograd.h>

#include <algorithm>

#include <xent/core/parallel.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/places.h>
#include <xent/ops/cpu/product_kernels.h>

namespace xent::cpu {

namespace {

constexpr int64_t side = 4, reach = 6;  // pixels, of a tile of the result and of what it is computed from

int64_t pad(int64_t channels) { return (channels + 15) / 16 * 16; }

// u = G g G' of a weight of so many rows and columns, every plane packed in panels. Taps are so many elements apart,
// and so are rows. Padded columns are a multiple of 16: a last panel is as wide as it is packed, here and below.
void transform_weight(const float* weight, int64_t tap, int64_t row, int64_t rows, int64_t columns, float* u,
                      int64_t plane) {
  const auto [gemm, direct, winograd] = product_kernels<float>();
  parallel_for(rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      each_panel<float>(pad(columns), [&](int64_t column, int64_t count) {
        winograd->weight(weight + r * row + column, tap, std::min(count, columns - column),
                         u + rows * column + r * count, plane);
      });
  });
}

// The square of pixels whose corner is at a row and column of image n.
WinogradPatch patch(int64_t pixels, int64_t n, int64_t row, int64_t column, int64_t height, int64_t width,
                    int64_t channels) {
  const auto first = [&](int64_t at) { return std::clamp<int64_t>(-at, 0, pixels); };
  const auto last = [&](int64_t at, int64_t extent) { return std::clamp<int64_t>(extent - at, 0, pixels); };
  return {.at = ((n * height + row) * width + column) * channels,
          .line = width * channels,
          .channels = channels,
          .first_row = first(row),
          .last_row = last(row, height),
          .first_column = first(column),
          .last_column = last(column, width)};
}

}  // namespace

bool Winograd::serves(const Convolution& c) {
  if (!product_kernels<float>().winograd || c.kernel_height != 3 || c.kernel_width != 3 || !(c.stride == 1) ||
      !(c.dilation == 1))
    return false;
  constexpr int64_t most_weight = 1 << 16;  // channels in times out: every part keeps 36 planes of them
  if (c.in < 16 || c.out < 16 || c.in > most_weight || c.out > most_weight || pad(c.in) * pad(c.out) > most_weight)
    return false;
  const auto filled = [](int64_t used, int64_t unit) {
    return static_cast<double>(used) / static_cast<double>((used + unit - 1) / unit * unit);
  };
  constexpr double least = 0.5;  // of a fourfold gain
  return c.pixels() >= 16 * side * side &&
         filled(c.out_height, side) * filled(c.out_width, side) * filled(c.in, 16) * filled(c.out, 16) >= least;
}

Winograd::Winograd(const Convolution& c)
    : c_(c),
      in_(pad(c.in)),
      out_(pad(c.out)),
      tile_rows_((c.out_height + side - 1) / side),
      tile_columns_((c.out_width + side - 1) / side) {}

// Each part has planes of dU of its own, which no cache holds, and which it transforms: that has to be worth it.
int64_t Winograd::backward_parts() const {
  constexpr int64_t most_parts = 8, most_elements = 1 << 24;  // of all the planes
  const int64_t worth = std::max<int64_t>(1, tiles() / (2 * chunk_tiles));
  return std::clamp<int64_t>(most_elements / weight_planes(), 1, std::min({most_parts, c_.batch, worth}));
}

WinogradPatch Winograd::pixels_of(int64_t tile) const {
  const int64_t row = tile / tile_columns_ % tile_rows_, column = tile % tile_columns_;
  return patch(reach, tile / image_tiles(), side * row - c_.padding.height, side * column - c_.padding.width, c_.height,
               c_.width, c_.in);
}
WinogradPatch Winograd::result_of(int64_t tile) const {
  const int64_t row = tile / tile_columns_ % tile_rows_, column = tile % tile_columns_;
  return patch(side, tile / image_tiles(), side * row, side * column, c_.out_height, c_.out_width, c_.out);
}

WinogradPatch Winograd::pooled_of(int64_t tile) const {
  const int64_t row = tile / tile_columns_ % tile_rows_, column = tile % tile_columns_;
  return patch(side / 2, tile / image_tiles(), side / 2 * row, side / 2 * column, c_.out_height / 2, c_.out_width / 2,
               c_.out);
}

// Tiles read short runs, which the processor does not foresee. But a row of them is a band of the image, in one piece:
// each asks for its share of the next band.
template <class T>
[[gnu::always_inline]] inline void Winograd::prefetch(const T* images, int64_t image, int64_t tile) const {
  const int64_t ahead = tile + tile_columns_, n = ahead / image_tiles(), share = ahead % image_tiles();
  if (ahead >= tiles()) return;
  const int64_t begin = n * image + share * image / image_tiles(),
                end = n * image + (share + 1) * image / image_tiles();
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t i = begin; i < end; i += line) __builtin_prefetch(images + i, 0, 2);
}

void Winograd::forward(const float* x, const float* weight, const Epilogue<float>& epilogue, const Output& output,
                       float* scratch) const {
  const auto [gemm, direct, winograd] = product_kernels<float>();
  const float* u = scratch;
  transform_weight(weight, c_.in * c_.out, c_.out, c_.in, c_.out, scratch, weight_plane());
  const int64_t parts = forward_parts(), chunks = forward_chunks(), image = c_.height * c_.width * c_.in;
  const bool relu = epilogue.activation == Activation::relu;
  float* bias = scratch + weight_planes();  // with the channels of the planes
  std::fill(std::copy_n(epilogue.bias, epilogue.bias ? c_.out : 0, bias), bias + out_, 0.0f);
  Places places;
  parallel_chunks(parts, [&](int64_t part) {
    const Places::Place place(places);
    float* v = bias + out_ + place.index() * chunk_planes();
    float* m = v + planes * image_plane();
    for (int64_t chunk = part * chunks / parts; chunk < (part + 1) * chunks / parts; ++chunk) {
      const int64_t first = chunk * chunk_tiles, count = std::min(chunk_tiles, tiles() - first);
      for (int64_t t = 0; t < count; ++t) {
        prefetch(x, image, first + t);
        winograd->image(x, pixels_of(first + t), v + t * in_, image_plane());
      }
      for (int64_t p = 0; p < planes; ++p)
        each_panel<float>(out_, [&](int64_t column, int64_t columns) {
          gemm->multiply(count, columns, c_.in, v + p * image_plane(), in_, 1, u + p * weight_plane() + c_.in * column,
                         columns,
                         {m + p * result_plane() + column, out_, false, p == ones ? bias + column : nullptr, false});
        });
      for (int64_t t = 0; t < count; ++t) {
        const float* planes_of_tile = m + t * out_;
        if (output.place) {
          winograd->pooled(planes_of_tile, result_plane(), pooled_of(first + t), relu, output.y, output.place);
          continue;
        }
        const WinogradPatch to = result_of(first + t);
        winograd->result(planes_of_tile, result_plane(), to, relu, output.y);
        for (int64_t i = 0; i < to.last_row && !relu; ++i)
          activate(epilogue.activation, output.y + to.at + i * to.line, to.last_column * c_.out);
      }
    }
  });
}

void Winograd::backward(const float* x, const float* weight, const Result& result, const Gradient& dx,
                        const Gradient& dweight, const Gradient& dbias, float* scratch) const {
  const auto [gemm, direct, winograd] = product_kernels<float>();
  const auto result_grad = winograd->result_grad[static_cast<int>(result.activation)];
  const auto pooled_grad = winograd->pooled_grad[result.activation == Activation::relu ? 1 : 0];
  const int64_t parts = backward_parts(), image = c_.height * c_.width * c_.in;
  const int64_t result_image =
      result.place ? (c_.out_height / 2) * (c_.out_width / 2) * c_.out : c_.image_pixels() * c_.out;
  const int64_t weight_elements = c_.depth() * c_.out;
  auto* sums = reinterpret_cast<double*>(scratch);  // of the bias, [parts, out_]
  float* du = scratch + parts * 2 * out_;
  float* u = du + parts * weight_planes();
  float* chunks = u + transposed_planes();
  float* partials = chunks + parts * chunk_planes();  // of dweight
  float* transposed = partials + parts * weight_elements;
  if (dx.to) {
    parallel_for(c_.out, 4, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o)
        for (int64_t i = 0; i < c_.depth(); ++i) transposed[o * c_.depth() + i] = weight[i * c_.out + o];
    });
    transform_weight(transposed, c_.in, c_.depth(), c_.out, c_.in, u, transposed_plane());
  }
  Places places;
  parallel_chunks(parts, [&](int64_t part) {
    const Places::Place place(places);
    float* part_du = du + place.index() * weight_planes();
    float* v = chunks + place.index() * chunk_planes();
    float* w = v + planes * image_plane();
    std::fill_n(sums + part * out_, out_, 0.0);
    const int64_t begin = part * c_.batch / parts * image_tiles(), end = (part + 1) * c_.batch / parts * image_tiles();
    for (int64_t first = begin; first < end; first += chunk_tiles) {
      const int64_t count = std::min(chunk_tiles, end - first);
      for (int64_t t = 0; t < count; ++t) {
        prefetch(result.dy, result_image, first + t);
        if (result.activation != Activation::none) prefetch(result.y, result_image, first + t);
        if (result.place) prefetch(result.place, result_image, first + t);
        if (result.place)
          pooled_grad(result.y, result.dy, result.place, pooled_of(first + t), w + t * out_, result_plane());
        else result_grad(result.y, result.dy, result_of(first + t), w + t * out_, result_plane());
      }
      direct->sum(count, out_, w + ones * result_plane(), sums + part * out_);
      for (int64_t t = 0; t < count && dweight.to; ++t) {
        prefetch(x, image, first + t);
        winograd->image(x, pixels_of(first + t), v + t * in_, image_plane());
      }
      for (int64_t p = 0; p < planes; ++p) {
        float *vp = v + p * image_plane(), *wp = w + p * result_plane();
        if (dweight.to)
          each_panel<float>(out_, [&](int64_t column, int64_t columns) {
            gemm->multiply(c_.in, columns, count, vp, 1, in_, wp + column, out_,
                           {part_du + p * weight_plane() + column, out_, first > begin, nullptr, false});
          });
        if (dx.to)  // in the place of V, which has served
          each_panel<float>(in_, [&](int64_t column, int64_t columns) {
            gemm->multiply(count, columns, c_.out, wp, out_, 1, u + p * transposed_plane() + c_.out * column, columns,
                           {vp + column, in_, false, nullptr, false});
          });
      }
      for (int64_t t = 0; t < count && dx.to; ++t) {
        if ((first + t) % image_tiles() == 0 && dx.beta == 0)
          std::fill_n(dx.to + (first + t) / image_tiles() * image, image, 0.0f);
        winograd->image_grad(v + t * in_, image_plane(), pixels_of(first + t), dx.to);
      }
    }
    for (int64_t i = 0; i < c_.in && dweight.to; ++i)
      winograd->weight_grad(part_du + i * out_, weight_plane(), c_.out, partials + part * weight_elements + i * c_.out,
                            c_.in * c_.out);
  });
  if (dweight.to)
    parallel_for(weight_elements, 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float total = dweight.beta == 0 ? 0 : dweight.to[i];
        for (int64_t part = 0; part < parts; ++part) total += partials[part * weight_elements + i];
        dweight.to[i] = total;
      }
    });
  for (int64_t o = 0; o < c_.out && dbias.to; ++o) {
    double total = dbias.beta == 0 ? 0 : static_cast<double>(dbias.to[o]);
    for (int64_t part = 0; part < parts; ++part) total += sums[part * out_ + o];
    dbias.to[o] = static_cast<float>(total);
  }
}

}  // namespace xent::cpu
