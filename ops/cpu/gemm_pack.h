// gemm's panels: some columns of B copied to where they lie side by side, so that the inner kernel reads them in order.
#pragma once

#include <cstdint>
#include <utility>

namespace xent::cpu {

// B[depth, columns], its rows `stride` apart, or if transpose the transpose of B[columns, depth].
template <class T>
struct PanelOfB {
  const T* b;
  int64_t stride, depth, columns;
  bool transpose;
  const T* next;  // the b of the panel after this one, as large: fetched meanwhile; or null
};

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

template <class T, int lanes>
struct VectorOf {
  typedef T type __attribute__((vector_size(lanes * sizeof(T))));
};

// From and to anywhere in memory.
template <class Vector, class T>
[[gnu::always_inline]] inline Vector load(const T* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof(Vector));
  return vector;
}
template <class Vector, class T>
[[gnu::always_inline]] inline void store(const Vector& vector, T* to) {
  __builtin_memcpy(to, &vector, sizeof(Vector));
}

// Where a lane of the even (odd = 0) or odd units of two vectors comes from, the first vector's before the second's
// within each group of units.
constexpr int unzipped(int lane, int lanes, int unit, int group, int odd) {
  const int at = lane / unit % group, half = group / 2;
  return lane / unit / group * group * unit + (2 * (at % half) + odd) * unit + lane % unit + (at < half ? 0 : lanes);
}

template <int unit, int group, class Vector, int... lane>
[[gnu::always_inline]] inline void unzip(Vector& a, Vector& b, std::integer_sequence<int, lane...>) {
  constexpr int lanes = sizeof...(lane);
  const Vector first = a, second = b;
#if defined(__clang__) || __GNUC__ >= 12
  a = __builtin_shufflevector(first, second, unzipped(lane, lanes, unit, group, 0)...);
  b = __builtin_shufflevector(first, second, unzipped(lane, lanes, unit, group, 1)...);
#else
  const auto from = [&](int at) { return at < lanes ? first[at] : second[at - lanes]; };
  ((a[lane] = from(unzipped(lane, lanes, unit, group, 0)), b[lane] = from(unzipped(lane, lanes, unit, group, 1))), ...);
#endif
}

// Row r becomes column r: a step for each bit of r. Units are lanes within 16 bytes, and then 16 bytes each: those are
// the shuffles that processors do in one cycle.
template <int step, class T, int lanes>
[[gnu::always_inline]] inline void transpose(typename VectorOf<T, lanes>::type (&rows)[lanes]) {
  constexpr int sixteen = 16 / sizeof(T);
  if constexpr (step < lanes) {
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r)
      if (!(r & step))
        unzip<(step < sixteen ? 1 : sixteen), (step < sixteen ? sixteen : lanes / sixteen)>(
            rows[r], rows[r + step], std::make_integer_sequence<int, lanes>());
    transpose<2 * step, T, lanes>(rows);
  }
}

// to[k, i] = from[i, k], plus what it was if add, for a square of as many rows as a vector has lanes.
template <class T, int lanes, bool add = false>
void transpose_square(const T* from, int64_t from_row, T* to, int64_t to_row) {
  using Vector = typename VectorOf<T, lanes>::type;
  Vector rows[lanes];
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) rows[r] = load<Vector>(from + r * from_row);
  transpose<1, T, lanes>(rows);
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) {
    if constexpr (add) rows[r] = load<Vector>(to + r * to_row) + rows[r];
    store(rows[r], to + r * to_row);
  }
}

// to[columns, rows] = from[rows, columns] transposed, plus what it was if add.
template <class T, int lanes>
void transpose_to(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row, bool add) {
  const auto square = add ? transpose_square<T, lanes, true> : transpose_square<T, lanes, false>;
  for (int64_t i = 0; i < rows; i += lanes)
    for (int64_t k = 0; k < columns; k += lanes) {
      if (i + lanes <= rows && k + lanes <= columns) {
        square(from + i * from_row + k, from_row, to + k * to_row + i, to_row);
        continue;
      }
      for (int64_t r = i; r < i + lanes && r < rows; ++r)
        for (int64_t q = k; q < k + lanes && q < columns; ++q) {
          T& sum = to[q * to_row + r];
          sum = add ? sum + from[r * from_row + q] : from[r * from_row + q];
        }
    }
}

template <class T, int lanes>
void pack(const PanelOfB<T>& of, T* panel) {
  using Vector = typename VectorOf<T, lanes>::type;
  const T *b = of.b, *next = of.next;
  const int64_t stride = of.stride, depth = of.depth, columns = of.columns;
  const bool transpose = of.transpose;
  const int64_t width = columns <= lanes ? lanes : 2 * lanes, even_columns = columns / lanes * lanes;
  const int64_t even_depth = transpose ? depth / lanes * lanes : depth;
  // Prefetched to the second level: the first is for this panel.
  if (transpose)
    for (int64_t i = 0; i < even_columns; i += lanes)
      for (int64_t k = 0; k < even_depth; k += lanes) {
        for (int64_t r = i; r < i + lanes && next; ++r) __builtin_prefetch(next + r * stride + k, 0, 2);
        transpose_square<T, lanes>(b + i * stride + k, stride, panel + k * width + i, width);
      }
  else
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t i = 0; i < even_columns; i += lanes) {
        if (next) __builtin_prefetch(next + k * stride + i, 0, 2);
        store(load<Vector>(b + k * stride + i), panel + k * width + i);
      }
  const int64_t down = transpose ? 1 : stride, across = transpose ? stride : 1;
  const auto one_by_one = [=](int64_t from, int64_t first) {
    for (int64_t k = from; k < depth; ++k) {
      for (int64_t i = first; i < columns; ++i) panel[k * width + i] = b[k * down + i * across];
      for (int64_t i = columns; i < width; ++i) panel[k * width + i] = 0;
    }
  };
  if (even_columns < width) one_by_one(0, even_columns);
  if (even_depth < depth) one_by_one(even_depth, 0);
}

}  // namespace

}  // namespace xent::cpu
