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

// Swaps the off-diagonal halves of every square of 2 step rows and columns of which a is an upper and b a lower row.
template <int step, class Vector, int... lane>
void swap_halves(Vector& a, Vector& b, std::integer_sequence<int, lane...>) {
  const Vector upper = a, lower = b;
#if defined(__clang__) || __GNUC__ >= 12
  constexpr int lanes = sizeof...(lane);
  a = __builtin_shufflevector(upper, lower, (lane & step ? lanes + (lane ^ step) : lane)...);
  b = __builtin_shufflevector(upper, lower, (lane & step ? lanes + lane : lane ^ step)...);
#else
  ((lane & step ? a[lane] = lower[lane ^ step] : b[lane] = upper[lane ^ step]), ...);
#endif
}

template <int step, class Vector, int lanes>
void transpose(Vector (&rows)[lanes]) {
  if constexpr (step < lanes) {
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r)
      if (!(r & step)) swap_halves<step>(rows[r], rows[r + step], std::make_integer_sequence<int, lanes>());
    transpose<2 * step>(rows);
  }
}

// panel[k, i] = b[i, k] for a square of as many rows as a vector has lanes.
template <class T, int lanes>
void pack_square(const T* b, int64_t stride, T* panel, int64_t width) {
  using Vector = typename VectorOf<T, lanes>::type;
  Vector rows[lanes];
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) rows[r] = load<Vector>(b + r * stride);
  transpose<1>(rows);
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) store(rows[r], panel + r * width);
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
        pack_square<T, lanes>(b + i * stride + k, stride, panel + k * width + i, width);
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
