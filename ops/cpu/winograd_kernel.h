// The transforms of Winograd's F(4 x 4, 3 x 3): linear maps along both sides of a tile, many channels side by side.
//
// Along one side, six products give four results of three taps, where the definition takes twelve:
//   y = A' ((G g) * (B' d)),  d: 6 inputs, g: 3 taps, y: 4 results, * element by element.
// The maps come from polynomials that are evaluated at 0, 1, -1, 2, -2 and infinity, multiplied, and interpolated. A
// gradient takes the transposed maps. Each is applied to the columns of a tile, then to the rows of what that gave.
//
// Compiled once per instruction set (winograd_avx2.cpp, winograd_avx512.cpp). In the transformed domain a tile is one
// element in each of 36 planes, for every channel; channels there are padded to a multiple of 16 with zeros.
#pragma once

#include <cstdint>

namespace xent::cpu {

// The pixels of an image under a tile, of which some may be outside.
struct WinogradPatch {
  int64_t at;        // the element of the image that row 0, column 0 would be, inside or not
  int64_t line;      // elements from one row of the image to the next
  int64_t channels;  // elements from one pixel to the next
  int64_t first_row, last_row, first_column, last_column;  // those inside the image
};

struct WinogradKernel {
  // v = B' d B of the 6 x 6 pixels d of an image, 0 outside; and dx += B dv B', the transposed map.
  void (*image)(const float* x, const WinogradPatch& patch, float* v, int64_t plane);
  void (*image_grad)(const float* dv, int64_t plane, const WinogradPatch& patch, float* dx);

  // y = A' m A + bias, of 4 x 4 pixels, then max(y, 0) if relu. bias may be null.
  void (*result)(const float* m, int64_t plane, const WinogradPatch& patch, const float* bias, bool relu, float* y);

  // w = A dz A' of dz = dy f'(z), for each Activation f.
  void (*result_grad[4])(const float* y, const float* dy, const WinogradPatch& patch, float* w, int64_t plane);

  // u = G g G' of so many neighbours in one row of the weight, whose taps are so far apart, padded with zeros to a
  // multiple of 16.
  void (*weight)(const float* g, int64_t tap, int64_t columns, float* u, int64_t plane);

  // dg = G' du G of a row.
  void (*weight_grad)(const float* du, int64_t plane, int64_t columns, float* dg, int64_t tap);

  // Copies rows of so many elements, a multiple of 16, that are so far apart, to one after the other.
  void (*pack)(const float* from, int64_t distance, int64_t rows, int64_t columns, float* to);
};

namespace avx2 {
extern const WinogradKernel winograd;
}  // namespace avx2
namespace avx512 {
extern const WinogradKernel winograd;
}  // namespace avx512

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int lanes>
struct WinogradTransforms {
  typedef float Vector __attribute__((vector_size(lanes * sizeof(float))));
  typedef float Memory __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));

  // The maps along one side, y from x.
  struct ImageMap {  // B'
    static constexpr int from = 6, to = 6;
    static void apply(const Vector* x, Vector* y) {
      const Vector even = x[4] - 4.f * x[2], odd = x[3] - 4.f * x[1];
      const Vector far_even = x[4] - x[2], far_odd = 2.f * (x[3] - x[1]);
      y[0] = 4.f * x[0] + (x[4] - 5.f * x[2]);
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = 4.f * x[1] + (x[5] - 5.f * x[3]);
    }
  };
  struct ImageGradMap {  // B
    static constexpr int from = 6, to = 6;
    static void apply(const Vector* x, Vector* y) {
      const Vector near = x[1] + x[2], near_odd = x[1] - x[2], far = x[3] + x[4], far_odd = x[3] - x[4];
      y[0] = 4.f * x[0];
      y[1] = 4.f * (x[5] - near_odd) - 2.f * far_odd;
      y[2] = -5.f * x[0] - (4.f * near + far);
      y[3] = (near_odd + 2.f * far_odd) - 5.f * x[5];
      y[4] = x[0] + near + far;
      y[5] = x[5];
    }
  };
  struct ResultMap {  // A'
    static constexpr int from = 6, to = 4;
    static void apply(const Vector* x, Vector* y) {
      const Vector near = x[1] + x[2], near_odd = x[1] - x[2], far = x[3] + x[4], far_odd = x[3] - x[4];
      y[0] = x[0] + near + far;
      y[1] = near_odd + 2.f * far_odd;
      y[2] = near + 4.f * far;
      y[3] = near_odd + 8.f * far_odd + x[5];
    }
  };
  struct ResultGradMap {  // A
    static constexpr int from = 4, to = 6;
    static void apply(const Vector* x, Vector* y) {
      const Vector even = x[0] + x[2], odd = x[1] + x[3];
      const Vector far_even = x[0] + 4.f * x[2], far_odd = 2.f * x[1] + 8.f * x[3];
      y[0] = x[0];
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = x[3];
    }
  };
  struct WeightMap {  // G
    static constexpr int from = 3, to = 6;
    static void apply(const Vector* x, Vector* y) {
      const Vector even = (x[0] + x[2]) * (-1 / 6.f), odd = x[1] * (-1 / 6.f);
      const Vector far_even = x[0] * (1 / 24.f) + x[2] * (1 / 6.f), far_odd = x[1] * (1 / 12.f);
      y[0] = x[0] * 0.25f;
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = far_even + far_odd;
      y[4] = far_even - far_odd;
      y[5] = x[2];
    }
  };
  struct WeightGradMap {  // G'
    static constexpr int from = 6, to = 3;
    static void apply(const Vector* x, Vector* y) {
      const Vector near = (x[1] + x[2]) * (-1 / 6.f), far = x[3] + x[4];
      y[0] = x[0] * 0.25f + near + far * (1 / 24.f);
      y[1] = (x[2] - x[1]) * (1 / 6.f) + (x[3] - x[4]) * (1 / 12.f);
      y[2] = near + far * (1 / 6.f) + x[5];
    }
  };

  // Calls store(i, j, the element of map X map') for all of them, where X is load(i, j).
  template <class Map, class Load, class Store>
  __attribute__((always_inline)) static void both_sides(const Load& load, const Store& store) {
    Vector half[Map::to][Map::from];
#pragma GCC unroll 1
    for (int j = 0; j < Map::from; ++j) {
      Vector x[Map::from], y[Map::to];
#pragma GCC unroll 6
      for (int i = 0; i < Map::from; ++i) x[i] = load(i, j);
      Map::apply(x, y);
#pragma GCC unroll 6
      for (int i = 0; i < Map::to; ++i) half[i][j] = y[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < Map::to; ++i) {
      Vector y[Map::to];
      Map::apply(half[i], y);
#pragma GCC unroll 6
      for (int j = 0; j < Map::to; ++j) store(i, j, y[j]);
    }
  }

  static Vector load(const float* from) { return *reinterpret_cast<const Memory*>(from); }
  static void store(float* to, Vector value) { *reinterpret_cast<Memory*>(to) = value; }

  static Vector load(const float* from, int64_t count) {  // the first count lanes, and zeros
    if (count >= lanes) return load(from);
    float line[lanes] = {};
    for (int64_t i = 0; i < count; ++i) line[i] = from[i];
    return load(line);
  }
  static void store(float* to, int64_t count, Vector value) {
    if (count >= lanes) return store(to, value);
    float line[lanes];
    store(line, value);
    for (int64_t i = 0; i < count; ++i) to[i] = line[i];
  }

  static int64_t padded(int64_t channels) { return (channels + 15) / 16 * 16; }

  // Where pixel (i, j) of a patch is: in the image itself, or in a copy of what is inside it.
  template <class Float>
  struct Pixels {
    Float* corner;
    int64_t line, step;
    Float* operator()(int i, int j) const { return corner + i * line + j * step; }
  };

  template <int side>
  static bool inside(const WinogradPatch& patch, int64_t c) {
    return patch.first_row == 0 && patch.last_row == side && patch.first_column == 0 && patch.last_column == side &&
           c + lanes <= patch.channels;
  }

  // Asks for what the neighbouring tile will read, or write: it comes next. What is beyond the image does no harm,
  // since nothing is read.
  template <bool write>
  static void prefetch_tile(const float* pixel, const WinogradPatch& patch) {
    const auto ahead = static_cast<uintptr_t>(4 * patch.channels) * sizeof(float);
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(pixel) + ahead), write);
  }

  // Calls each(element of the image, of the copy) for the pixels inside the image, from channel c on.
  template <int side, class Each>
  static void each_inside(const WinogradPatch& patch, int64_t c, const Each& each) {
    const int64_t count = patch.channels - c < lanes ? patch.channels - c : lanes;
    for (int64_t i = patch.first_row; i < patch.last_row; ++i)
      for (int64_t j = patch.first_column; j < patch.last_column; ++j)
        for (int64_t k = 0; k < count; ++k)
          each(patch.at + i * patch.line + j * patch.channels + c + k, (i * side + j) * lanes + k);
  }

  // Takes pixels from one image, or combines those of two: the second may be null.
  template <class Map, class Combine>
  static void from_image(const float* image, const float* second, const WinogradPatch& patch, float* planes,
                         int64_t plane, const Combine& combine) {
    constexpr int side = Map::from;
    float copy[side * side * lanes], second_copy[side * side * lanes];
    for (int64_t c = 0; c < padded(patch.channels); c += lanes) {
      const bool direct = inside<side>(patch, c);
      Pixels<const float> pixels{copy, side * lanes, lanes}, seconds{second_copy, side * lanes, lanes};
      if (direct) {
        pixels = {image + (patch.at + c), patch.line, patch.channels};
        if (second) seconds = {second + (patch.at + c), patch.line, patch.channels};
      } else {
        for (int i = 0; i < side * side * lanes; ++i) copy[i] = second_copy[i] = 0;
        each_inside<side>(patch, c, [&](int64_t from, int64_t to) {
          copy[to] = image[from];
          if (second) second_copy[to] = second[from];
        });
      }
      both_sides<Map>(
          [&](int i, int j) {
            prefetch_tile<false>(pixels(i, j), patch);
            if (second) prefetch_tile<false>(seconds(i, j), patch);
            return combine(pixels(i, j), seconds(i, j));
          },
          [&](int i, int j, Vector y) { store(planes + (i * Map::to + j) * plane + c, y); });
    }
  }

  // Writes, or adds, finish(value, first of its channels).
  template <class Map, bool add, class Finish>
  static void to_image(const float* planes, int64_t plane, const WinogradPatch& patch, float* image,
                       const Finish& finish) {
    constexpr int side = Map::to;
    float copy[side * side * lanes];
    for (int64_t c = 0; c < patch.channels; c += lanes) {
      const bool direct = inside<side>(patch, c);
      const Pixels<float> pixels = direct ? Pixels<float>{image + (patch.at + c), patch.line, patch.channels}
                                          : Pixels<float>{copy, side * lanes, lanes};
      both_sides<Map>([&](int i, int j) { return load(planes + (i * Map::from + j) * plane + c); },
                      [&](int i, int j, Vector y) {
                        float* pixel = pixels(i, j);
                        prefetch_tile<true>(pixel, patch);
                        const Vector value = finish(y, c);
                        store(pixel, add && direct ? load(pixel) + value : value);
                      });
      if (!direct)
        each_inside<side>(patch, c,
                          [&](int64_t to, int64_t from) { image[to] = add ? image[to] + copy[from] : copy[from]; });
    }
  }

  static void image(const float* x, const WinogradPatch& patch, float* v, int64_t plane) {
    from_image<ImageMap>(x, nullptr, patch, v, plane, [](const float* pixel, const float*) { return load(pixel); });
  }
  static void image_grad(const float* dv, int64_t plane, const WinogradPatch& patch, float* dx) {
    to_image<ImageGradMap, true>(dv, plane, patch, dx, [](Vector y, int64_t) { return y; });
  }
  static void result(const float* m, int64_t plane, const WinogradPatch& patch, const float* bias, bool relu,
                     float* y) {
    to_image<ResultMap, false>(m, plane, patch, y, [=](Vector z, int64_t c) {
      if (bias) z += load(bias + c, patch.channels - c);
      if (relu) z = z <= 0.f ? Vector{} : z;  // keeps NaN
      return z;
    });
  }

  // f'(z) of each Activation, told from y = f(z).
  struct Identity {
    static constexpr bool reads = false;
    static Vector slope(Vector) { return Vector{} + 1.f; }
  };
  struct Relu {
    static constexpr bool reads = true;
    static Vector slope(Vector y) { return y <= 0.f ? Vector{} : Vector{} + 1.f; }
  };
  struct Tanh {
    static constexpr bool reads = true;
    static Vector slope(Vector y) { return (1.f - y) * (1.f + y); }
  };
  struct Sigmoid {
    static constexpr bool reads = true;
    static Vector slope(Vector y) { return y * (1.f - y); }
  };
  template <class F>
  static void result_grad(const float* y, const float* dy, const WinogradPatch& patch, float* w, int64_t plane) {
    from_image<ResultGradMap>(dy, F::reads ? y : nullptr, patch, w, plane,
                              [](const float* d, const float* at) { return load(d) * F::slope(load(at)); });
  }

  static void weight(const float* g, int64_t tap, int64_t columns, float* u, int64_t plane) {
    for (int64_t c = 0; c < padded(columns); c += lanes)
      both_sides<WeightMap>(
          [&](int i, int j) { return c < columns ? load(g + (i * 3 + j) * tap + c, columns - c) : Vector{}; },
          [&](int i, int j, Vector y) { store(u + (i * 6 + j) * plane + c, y); });
  }
  static void weight_grad(const float* du, int64_t plane, int64_t columns, float* dg, int64_t tap) {
    for (int64_t c = 0; c < columns; c += lanes)
      both_sides<WeightGradMap>([&](int i, int j) { return load(du + (i * 6 + j) * plane + c); },
                                [&](int i, int j, Vector y) { store(dg + (i * 3 + j) * tap + c, columns - c, y); });
  }

  static void pack(const float* from, int64_t distance, int64_t rows, int64_t columns, float* to) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; c += lanes) store(to + r * columns + c, load(from + r * distance + c));
  }

  static constexpr WinogradKernel kernel = {
      image,  image_grad,  result, {result_grad<Identity>, result_grad<Relu>, result_grad<Tanh>, result_grad<Sigmoid>},
      weight, weight_grad, pack};
};

}  // namespace

}  // namespace xent::cpu
