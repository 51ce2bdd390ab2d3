// Squares of vectors, in memory or computed, and a map (winograd_maps.h) applied to their columns, then to the rows of
// what that gave.
#pragma once

#include <cstdint>

#include <xent/ops/cpu/winograd_maps.h>

namespace xent::cpu {

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <int lanes>
struct WinogradSquares {
  using Maps = WinogradMaps<lanes>;
  using Vector = typename Maps::Vector;
  typedef float Memory __attribute__((vector_size(lanes * sizeof(float)), aligned(sizeof(float)), may_alias));

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

  // Where the elements of a square are in memory.
  template <class Float>
  struct Square {
    Float* corner;
    int64_t line, step;
    Float* operator()(int i, int j) const { return corner + i * line + j * step; }

    // Changes nothing; but the compiler does not know, and so computes addresses as it goes. It would else have all of
    // them before the loop over channels, and keep them on the stack.
    void forget() { asm("" : "+r"(corner), "+r"(line), "+r"(step)); }
  };
  // A square of so many elements in a line, each in a plane of its own.
  template <class Float>
  static Square<Float> planes_of(Float* planes, int64_t plane, int width) {
    return {planes, width * plane, plane};
  }

  // lines = map X, the first so many of them in Map::order, where X is load(i, j).
  template <class Map, int count, class Load>
  __attribute__((always_inline)) static void first_side(int first, const Load& load,
                                                        Vector (&lines)[count][Map::from]) {
#pragma GCC unroll 6
    for (int j = 0; j < Map::from; ++j) {
      Vector x[Map::from], y[Map::to];
#pragma GCC unroll 6
      for (int i = 0; i < Map::from; ++i) x[i] = load(i, j);
      Map::apply(x, y);
#pragma GCC unroll 6
      for (int i = 0; i < count; ++i) lines[i][j] = y[Map::order[first + i]];
    }
  }

  // Calls store(to, i, j, the element of map X map') for all of them, where X is load(from, i, j): half of the lines,
  // and then the others, since no more of them stay in registers.
  template <class Map, class From, class To, class Load, class Store>
  __attribute__((always_inline)) static void both_sides(From from, To to, const Load& load, const Store& store) {
    constexpr int count = Map::to / 2;
#pragma GCC unroll 3
    for (int first = 0; first < Map::to; first += count) {
      from.forget();
      to.forget();
      Vector lines[count][Map::from];
      first_side<Map>(
          first, [&](int i, int j) { return load(from, i, j); }, lines);
#pragma GCC unroll 6
      for (int i = 0; i < count; ++i) {
        Vector y[Map::to];
        Map::apply(lines[i], y);
#pragma GCC unroll 6
        for (int j = 0; j < Map::to; ++j) store(to, Map::order[first + i], j, y[j]);
      }
    }
  }
};

}  // namespace

}  // namespace xent::cpu
