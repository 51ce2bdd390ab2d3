// The transforms of Winograd's F(4 x 4, 3 x 3): where the pixels of a tile are, and what is done to them on the way to
// its maps (winograd_squares.h) and from there.
//
// One template in the compiler's vector types, compiled once per instruction set (winograd_avx2.cpp,
// winograd_avx512.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include <xent/ops/cpu/winograd_kernel.h>
#include <xent/ops/cpu/winograd_squares.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int lanes>
struct WinogradTransforms : WinogradSquares<lanes> {
  using Squares = WinogradSquares<lanes>;
  using Squares::load, Squares::planes_of, Squares::store;
  using typename Squares::Maps, typename Squares::Vector;
  template <class Float>
  using Square = typename Squares::template Square<Float>;

  static int64_t padded(int64_t channels) { return (channels + 15) / 16 * 16; }

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

  // Two images that are read together; the second may be null.
  struct Two {
    Square<const float> first, second;
    void forget() {
      first.forget();
      second.forget();
    }
  };

  // Takes pixels from one image, or combines those of two.
  template <class Map, class Combine>
  static void from_image(const float* image, const float* second, const WinogradPatch& patch, float* planes,
                         int64_t plane, const Combine& combine) {
    constexpr int side = Map::from;
    float copy[side * side * lanes], second_copy[side * side * lanes];
    for (int64_t c = 0; c < padded(patch.channels); c += lanes) {
      Two pixels{{copy, side * lanes, lanes}, {second_copy, side * lanes, lanes}};
      if (inside<side>(patch, c)) {
        pixels.first = {image + (patch.at + c), patch.line, patch.channels};
        if (second) pixels.second = {second + (patch.at + c), patch.line, patch.channels};
      } else {
        for (int i = 0; i < side * side * lanes; ++i) copy[i] = second_copy[i] = 0;
        each_inside<side>(patch, c, [&](int64_t from, int64_t to, int64_t count) {
          store(copy + to, load(image + from, count));
          if (second) store(second_copy + to, load(second + from, count));
        });
      }
      Squares::template both_sides<Map>(
          pixels, planes_of(planes + c, plane, Map::to),
          [&](const Two& two, int i, int j) { return combine(two.first(i, j), two.second(i, j)); },
          [](const auto& to, int i, int j, const Vector& y) { store(to(i, j), y); });
    }
  }

  // Writes, or adds, finish(value).
  template <class Map, bool add, class Finish>
  static void to_image(const float* planes, int64_t plane, const WinogradPatch& patch, float* image,
                       const Finish& finish) {
    constexpr int side = Map::to;
    float copy[side * side * lanes];
    for (int64_t c = 0; c < patch.channels; c += lanes) {
      const bool direct = inside<side>(patch, c);
      const Square<float> pixels = direct ? Square<float>{image + (patch.at + c), patch.line, patch.channels}
                                          : Square<float>{copy, side * lanes, lanes};
      Squares::template both_sides<Map>(
          planes_of(planes + c, plane, Map::from), pixels,
          [](const auto& from, int i, int j) { return load(from(i, j)); },
          [&](const auto& to, int i, int j, const Vector& y) {
            float* pixel = to(i, j);
            prefetch_tile(pixel, 4, patch);
            const Vector value = finish(y);
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
    to_image<typename Maps::ImageGrad, true>(dv, plane, patch, dx, [](Vector y) { return y; });
  }
  static void result(const float* m, int64_t plane, const WinogradPatch& patch, bool relu, float* y) {
    to_image<typename Maps::Result, false>(m, plane, patch, y, [=](Vector z) { return activated(z, relu); });
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

  static void pooled(const float* m, int64_t plane, const WinogradPatch& patch, bool relu, float* y, uint8_t* place) {
    using Result = typename Maps::Result;
    for (int64_t c = 0; c < patch.channels; c += lanes) {
      const int64_t count = patch.channels - c;
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {  // two lines of results at a time: as many as stay in registers
        Vector lines[2][6], upper[4], lower[4];
        auto from = planes_of(m + c, plane, 6);
        from.forget();
        Squares::template first_side<Result>(
            2 * i, [&](int k, int j) { return load(from(k, j)); }, lines);
        Result::apply(lines[0], upper);
        Result::apply(lines[1], lower);
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          const auto result = [&](const Vector& z, int which) { return Candidate{z, Which{} + which}; };
          const Candidate largest = larger(larger(result(upper[2 * j], 0), result(upper[2 * j + 1], 1)),
                                           larger(result(lower[2 * j], 2), result(lower[2 * j + 1], 3)));
          if (i >= patch.last_row || j >= patch.last_column) continue;
          const int64_t at = patch.at + i * patch.line + j * patch.channels + c;
          prefetch_tile(y + at, 2, patch);
          store(y + at, count, activated(largest.value, relu));  // the largest of all with relu, too
          store_places(place + at, count, largest.which);
        }
      }
    }
  }
  // dz of 2 x 2 windows, each of which has it at one of its four.
  struct Windows {
    Vector dz[2][2] = {};
    Which which[2][2] = {};
    Vector operator()(int i, int j) const {
      return which[i / 2][j / 2] == i % 2 * 2 + j % 2 ? dz[i / 2][j / 2] : Vector{};
    }
    void forget() { asm("" : "+v"(which[0][0]), "+v"(which[0][1]), "+v"(which[1][0]), "+v"(which[1][1])); }
  };
  template <class F>
  static void pooled_grad(const float* y, const float* dy, const uint8_t* place, const WinogradPatch& patch, float* w,
                          int64_t plane) {
    for (int64_t c = 0; c < padded(patch.channels); c += lanes) {
      const int64_t count = patch.channels - c;
      Windows windows;
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          if (i >= patch.last_row || j >= patch.last_column || count <= 0) continue;
          const int64_t at = patch.at + i * patch.line + j * patch.channels + c;
          Vector dz = load(dy + at, count);
          if constexpr (F::reads) dz *= F::slope(load(y + at, count));
          windows.dz[i][j] = dz;
          windows.which[i][j] = load_places(place + at, count);
        }
      Squares::template both_sides<typename Maps::ResultGrad>(
          windows, planes_of(w + c, plane, 6), [](const Windows& from, int i, int j) { return from(i, j); },
          [](const auto& to, int i, int j, const Vector& v) { store(to(i, j), v); });
    }
  }

  static void weight(const float* g, int64_t tap, int64_t columns, float* u, int64_t plane) {
    for (int64_t c = 0; c < padded(columns); c += lanes)
      Squares::template both_sides<typename Maps::Weight>(
          planes_of(g + c, tap, 3), planes_of(u + c, plane, 6),
          [&](const auto& from, int i, int j) { return c < columns ? load(from(i, j), columns - c) : Vector{}; },
          [](const auto& to, int i, int j, const Vector& y) { store(to(i, j), y); });
  }
  static void weight_grad(const float* du, int64_t plane, int64_t columns, float* dg, int64_t tap) {
    for (int64_t c = 0; c < columns; c += lanes)
      Squares::template both_sides<typename Maps::WeightGrad>(
          planes_of(du + c, plane, 6), planes_of(dg + c, tap, 3),
          [](const auto& from, int i, int j) { return load(from(i, j)); },
          [&](const auto& to, int i, int j, const Vector& y) { store(to(i, j), columns - c, y); });
  }

  static constexpr WinogradKernel kernel = {
      image,  image_grad,
      result, {result_grad<Identity>, result_grad<Relu>, result_grad<Tanh>, result_grad<Sigmoid>},
      pooled, {pooled_grad<Identity>, pooled_grad<Relu>},
      weight, weight_grad};
};

}  // namespace

}  // namespace xent::cpu
