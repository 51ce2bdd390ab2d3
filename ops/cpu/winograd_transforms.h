// The transforms of Winograd's F(4 x 4, 3 x 3): a map (winograd_maps.h) applied to the columns of a tile, then to the
// rows of what that gave; and where the pixels of a tile are.
//
// One template in the compiler's vector types, compiled once per instruction set (winograd_avx2.cpp,
// winograd_avx512.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include <xent/ops/cpu/winograd_kernel.h>
#include <xent/ops/cpu/winograd_maps.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int lanes>
struct WinogradTransforms {
  using Maps = WinogradMaps<lanes>;
  using Vector = typename Maps::Vector;
  typedef float Memory __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));

  // half = map X, where X is load(i, j).
  template <class Map, class Load>
  __attribute__((always_inline)) static void first_side(const Load& load, Vector (&half)[Map::to][Map::from]) {
#pragma GCC unroll 6
    for (int j = 0; j < Map::from; ++j) {
      Vector x[Map::from], y[Map::to];
#pragma GCC unroll 6
      for (int i = 0; i < Map::from; ++i) x[i] = load(i, j);
      Map::apply(x, y);
#pragma GCC unroll 6
      for (int i = 0; i < Map::to; ++i) half[i][j] = y[i];
    }
  }
  // Calls store(i, j, the element of map X map') for all of them.
  template <class Map, class Load, class Store>
  __attribute__((always_inline)) static void both_sides(const Load& load, const Store& store) {
    Vector half[Map::to][Map::from];
    first_side<Map>(load, half);
#pragma GCC unroll 6
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

  // Asks for what the neighbouring tile will write: it comes next. What is beyond the image does no harm, since nothing
  // is read.
  static void prefetch_tile(const float* pixel, int64_t side, const WinogradPatch& patch) {
    const auto ahead = static_cast<uintptr_t>(side * patch.channels) * sizeof(float);
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(pixel) + ahead), 1);
  }

  // Calls each(pixel in the image, in the copy, how many lanes are channels) for those inside, from channel c on.
  template <int side, class Each>
  static void each_inside(const WinogradPatch& patch, int64_t c, const Each& each) {
    for (int64_t i = patch.first_row; i < patch.last_row; ++i)
      for (int64_t j = patch.first_column; j < patch.last_column; ++j)
        each(patch.at + i * patch.line + j * patch.channels + c, (i * side + j) * lanes, patch.channels - c);
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
        each_inside<side>(patch, c, [&](int64_t from, int64_t to, int64_t count) {
          store(copy + to, load(image + from, count));
          if (second) store(second_copy + to, load(second + from, count));
        });
      }
      both_sides<Map>([&](int i, int j) { return combine(pixels(i, j), seconds(i, j)); },
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
                        prefetch_tile(pixel, 4, patch);
                        const Vector value = finish(y, c);
                        store(pixel, add && direct ? load(pixel) + value : value);
                      });
      if (!direct)
        each_inside<side>(patch, c, [&](int64_t to, int64_t from, int64_t count) {
          const Vector value = load(copy + from);
          store(image + to, count, add ? load(image + to, count) + value : value);
        });
    }
  }

  static void image(const float* x, const WinogradPatch& patch, float* v, int64_t plane) {
    from_image<typename Maps::Image>(x, nullptr, patch, v, plane,
                                     [](const float* pixel, const float*) { return load(pixel); });
  }
  static void image_grad(const float* dv, int64_t plane, const WinogradPatch& patch, float* dx) {
    to_image<typename Maps::ImageGrad, true>(dv, plane, patch, dx, [](Vector y, int64_t) { return y; });
  }
  static void result(const float* m, int64_t plane, const WinogradPatch& patch, const float* bias, bool relu,
                     float* y) {
    to_image<typename Maps::Result, false>(m, plane, patch, y, [=](Vector z, int64_t c) {
      return activated(bias ? z + load(bias + c, patch.channels - c) : z, relu);
    });
  }
  static Vector activated(Vector z, bool relu) {
    if (relu) z = z <= 0.f ? Vector{} : z;  // keeps NaN
    return z;
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
    from_image<typename Maps::ResultGrad>(dy, F::reads ? y : nullptr, patch, w, plane,
                                          [](const float* d, const float* at) { return load(d) * F::slope(load(at)); });
  }

  // Which of its four the largest of a window is: bytes in memory.
  using Which = typename Maps::Integers;
  static void store_places(uint8_t* to, int64_t count, Which which) {
    int integers[lanes];
    uint8_t bytes[lanes];
    __builtin_memcpy(integers, &which, sizeof which);
    for (int lane = 0; lane < lanes; ++lane) bytes[lane] = static_cast<uint8_t>(integers[lane]);
    if (count >= lanes) __builtin_memcpy(to, bytes, lanes);
    else
      for (int64_t lane = 0; lane < count; ++lane) to[lane] = bytes[lane];
  }
  static Which load_places(const uint8_t* from, int64_t count) {
    int integers[lanes];
    uint8_t bytes[lanes] = {};
    if (count >= lanes) __builtin_memcpy(bytes, from, lanes);
    else
      for (int64_t lane = 0; lane < count; ++lane) bytes[lane] = from[lane];
    for (int lane = 0; lane < lanes; ++lane) integers[lane] = bytes[lane];
    Which which;
    __builtin_memcpy(&which, integers, sizeof which);
    return which;
  }

  // The larger of two and which it is, told by the numbers they have; the first of equal ones. A NaN is larger than
  // all.
  struct Candidate {
    Vector value;
    Which which;
  };
  static Candidate larger(const Candidate& a, const Candidate& b) {
    const Which first = (b.value <= a.value) | (a.value != a.value);
    return {first ? a.value : b.value, first ? a.which : b.which};
  }

  static void pooled(const float* m, int64_t plane, const WinogradPatch& patch, const float* bias, bool relu, float* y,
                     uint8_t* place) {
    using Result = typename Maps::Result;
    for (int64_t c = 0; c < patch.channels; c += lanes) {
      const int64_t count = patch.channels - c;
      const Vector shift = bias ? load(bias + c, count) : Vector{} * -1.f;  // z + -0 is z, also if z is -0
      Vector half[4][6];
      first_side<Result>([&](int i, int j) { return load(m + (i * 6 + j) * plane + c); }, half);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {  // two lines of results at a time: as many as stay in registers
        Vector upper[4], lower[4];
        Result::apply(half[2 * i], upper);
        Result::apply(half[2 * i + 1], lower);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          const auto result = [&](const Vector& z, int which) {
            return Candidate{activated(z + shift, relu), Which{} + which};
          };
          const Candidate largest = larger(larger(result(upper[2 * j], 0), result(upper[2 * j + 1], 1)),
                                           larger(result(lower[2 * j], 2), result(lower[2 * j + 1], 3)));
          if (i >= patch.last_row || j >= patch.last_column) continue;
          const int64_t at = patch.at + i * patch.line + j * patch.channels + c;
          prefetch_tile(y + at, 2, patch);
          store(y + at, count, largest.value);
          store_places(place + at, count, largest.which);
        }
      }
    }
  }
  template <class F>
  static void pooled_grad(const float* y, const float* dy, const uint8_t* place, const WinogradPatch& patch, float* w,
                          int64_t plane) {
    for (int64_t c = 0; c < padded(patch.channels); c += lanes) {
      const int64_t count = patch.channels - c;
      Vector dz[2][2] = {};
      Which which[2][2] = {};
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          if (i >= patch.last_row || j >= patch.last_column || count <= 0) continue;
          const int64_t at = patch.at + i * patch.line + j * patch.channels + c;
          dz[i][j] = load(dy + at, count);
          if constexpr (F::reads) dz[i][j] *= F::slope(load(y + at, count));
          which[i][j] = load_places(place + at, count);
        }
      both_sides<typename Maps::ResultGrad>(
          [&](int i, int j) { return which[i / 2][j / 2] == i % 2 * 2 + j % 2 ? dz[i / 2][j / 2] : Vector{}; },
          [&](int i, int j, Vector v) { store(w + (i * 6 + j) * plane + c, v); });
    }
  }

  static void weight(const float* g, int64_t tap, int64_t columns, float* u, int64_t plane) {
    for (int64_t c = 0; c < padded(columns); c += lanes)
      both_sides<typename Maps::Weight>(
          [&](int i, int j) { return c < columns ? load(g + (i * 3 + j) * tap + c, columns - c) : Vector{}; },
          [&](int i, int j, Vector y) { store(u + (i * 6 + j) * plane + c, y); });
  }
  static void weight_grad(const float* du, int64_t plane, int64_t columns, float* dg, int64_t tap) {
    for (int64_t c = 0; c < columns; c += lanes)
      both_sides<typename Maps::WeightGrad>(
          [&](int i, int j) { return load(du + (i * 6 + j) * plane + c); },
          [&](int i, int j, Vector y) { store(dg + (i * 3 + j) * tap + c, columns - c, y); });
  }

  static constexpr WinogradKernel kernel = {
      image,  image_grad,
      result, {result_grad<Identity>, result_grad<Relu>, result_grad<Tanh>, result_grad<Sigmoid>},
      pooled, {pooled_grad<Identity>, pooled_grad<Relu>},
      weight, weight_grad};
};

}  // namespace

}  // namespace xent::cpu
