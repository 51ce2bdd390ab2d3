// The inner kernel of gemm: a few rows of A times a packed panel of B, sums held in vector registers.
//
// One template in the compiler's vector types, compiled once per instruction set (gemm_avx2.cpp, gemm_avx512.cpp). An
// element of C is summed over k in order, whatever tile it falls into, so its bits do not depend on
// how C is cut.
#pragma once

#include <cstdint>

#include <xent/ops/cpu/gemm_pack.h>

namespace xent::cpu {

// Where a product goes: C[rows, columns], its rows `stride` apart; C = A B, plus what C was if add, plus a bias per
// column if there is one, and nothing below 0 if relu.
template <class T>
struct GemmOut {
  T* c;
  int64_t stride;
  bool add;
  const T* bias;
  bool relu;
};

template <class T>
struct GemmKernel {
  int64_t width;  // columns of a full panel; a panel of at most half of that is packed half as wide

  // Copies to a panel [depth, width] padded with zeros, or to [depth, width / 2] if columns <= width / 2.
  void (*pack)(const PanelOfB<T>& of, T* panel);

  // The product of `rows` rows of A, whose element (i, k) is a[i * a_row + k * a_depth], and a panel whose rows, as
  // wide as they are packed, are so far apart.
  void (*multiply)(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth,
                   const T* panel, int64_t panel_row, const GemmOut<T>& out);

  // The same for a panel of B that is not packed yet, neither transposed nor narrower than it would be packed: the
  // first tile of rows packs it for those that follow, and asks for the panel after it.
  void (*multiply_and_pack)(int64_t rows, const T* a, int64_t a_row, int64_t a_depth, const PanelOfB<T>& of, T* panel,
                            const GemmOut<T>& out);

  // to[columns, rows] = from[rows, columns] transposed, plus what it was if add; rows are so far apart.
  void (*transpose)(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row, bool add);

  int64_t packed_width(int64_t columns) const { return columns <= width / 2 ? width / 2 : width; }
};

namespace avx2 {
extern const GemmKernel<float> gemm_f32;
extern const GemmKernel<double> gemm_f64;
}  // namespace avx2
namespace avx512 {
extern const GemmKernel<float> gemm_f32;
extern const GemmKernel<double> gemm_f64;
}  // namespace avx512

namespace {  // a copy of its own for every file that includes it: see instruction_set.h

// Writes so many sums to a row of C, fewer than 2 count, in pieces of sizes that the compiler knows.
template <int count, class T>
[[gnu::always_inline]] inline void write_pieces(const T* sums, int64_t columns, T* c, const T* bias,
                                                const GemmOut<T>& out) {
  using Piece = typename VectorOf<T, count>::type;
  if (columns & count) {
    Piece value = load<Piece>(sums);
    if (out.add) value = load<Piece>(c) + value;
    if (bias) value += load<Piece>(bias), bias += count;
    if (out.relu) value = value <= T(0) ? Piece{} : value;
    store(value, c);
    sums += count;
    c += count;
  }
  if constexpr (count > 1) write_pieces<count / 2>(sums, columns, c, bias, out);
}

// Writes rows of which only so many columns are C's, and touches nothing beyond them. lines: the sums, [rows, width].
template <class T, int width>
[[gnu::noinline]] void write_part(int rows, int64_t columns, const T* lines, const GemmOut<T>& out) {
  for (int r = 0; r < rows; ++r)
    write_pieces<width / 2>(lines + r * width, columns, out.c + r * out.stride, out.bias, out);
}

// Writes a tile of C, a vector or two for each of its rows, of which so many columns are C's.
template <class T, int lanes, int vectors, int rows>
[[gnu::always_inline]] inline void write_tile(typename VectorOf<T, lanes>::type (&sum)[rows][vectors], int64_t columns,
                                              const GemmOut<T>& out) {
  using Vector = typename VectorOf<T, lanes>::type;
  if (columns < lanes * vectors) {
    T lines[rows * vectors * lanes];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(sum[r][v], lines + (r * vectors + v) * lanes);
    return write_part<T, lanes * vectors>(rows, columns, lines, out);
  }
  const auto each = [&](const auto& change) {  // of the sums, while they are in registers
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) change(sum[r][v], out.c + r * out.stride + v * lanes, v);
  };
  if (out.add) each([](Vector& value, const T* c, int) { value = load<Vector>(c) + value; });
  if (out.bias) each([&](Vector& value, const T*, int v) { value += load<Vector>(out.bias + v * lanes); });
  if (out.relu) each([](Vector& value, const T*, int) { value = value <= T(0) ? Vector{} : value; });
  each([](const Vector& value, T* c, int) { store(value, c); });
}

// Where a tile finds its panel: packed, or in B, from where it packs it.
template <class T>
struct PackedPanel {
  const T* b;
  int64_t row;
};
template <class T>
struct UnpackedPanel {
  const T* b;
  int64_t row;
  const T* next;
  T* packed;
};

// Where the sums will be written is asked for two rows at a time, between steps of the sum: all at once they would take
// every place for lines on their way, and A and B would have to wait.
template <class T, int lanes, int vectors, int rows, class Panel>
[[gnu::always_inline]] inline void multiply_tile(int64_t columns, int64_t depth, const T* a, int64_t a_row,
                                                 int64_t a_depth, const Panel& panel, const GemmOut<T>& out) {
  using Vector = typename VectorOf<T, lanes>::type;
  const int64_t ahead = depth < 16 ? depth : 16;                                     // rows of B, some 400 cycles
  const int64_t even = (2 * depth + rows - 1) / rows, step = even < 16 ? 16 : even;  // of short sums C is in the cache
  auto line = reinterpret_cast<uintptr_t>(out.c);                                    // may end up beyond C
  Vector sum[rows][vectors] = {};
  for (int64_t k = 0, end = step; k < depth; end += step) {
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r, line += static_cast<uintptr_t>(out.stride) * sizeof(T))
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) __builtin_prefetch(reinterpret_cast<const T*>(line) + v * lanes, 1);
    for (; k < depth && k < end; ++k) {
      Vector right[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) right[v] = load<Vector>(panel.b + k * panel.row + v * lanes);
      if constexpr (requires { panel.packed; }) {
        const int64_t then = k + ahead;
        const T* soon = then < depth ? panel.b + then * panel.row : panel.next + (then - depth) * panel.row;
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          store(right[v], panel.packed + (k * vectors + v) * lanes);
          __builtin_prefetch(soon + v * lanes, 0, 2);
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < rows; ++r) {
        const T left = a[r * a_row + k * a_depth];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) sum[r][v] += left * right[v];
      }
    }
  }
  write_tile<T, lanes>(sum, columns, out);
}

// Rows of A whole pages apart share eight lines of the first cache: more rows at a time would drive each other out.
template <int tile_rows>
constexpr int few_rows = tile_rows < 8 ? tile_rows : 8;
template <class T, int tile_rows>
bool fit_cache(int64_t a_row) {
  return tile_rows <= 8 || a_row * static_cast<int64_t>(sizeof(T)) % 4096 != 0;
}

// Tiles of so many rows, one below the other.
template <class T, int lanes, int vectors, int rows>
void multiply_tiles(int64_t tiles, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth,
                    const PackedPanel<T>& panel, GemmOut<T> out) {
  for (; tiles > 0; --tiles, a += rows * a_row, out.c += rows * out.stride)
    multiply_tile<T, lanes, vectors, rows>(columns, depth, a, a_row, a_depth, panel, out);
}
template <class T, int lanes, int vectors, int... less>
auto tiles_of(int64_t rows, std::integer_sequence<int, less...>) {
  constexpr decltype(&multiply_tiles<T, lanes, vectors, 1>) all[] = {multiply_tiles<T, lanes, vectors, less + 1>...};
  return all[rows - 1];
}

// Cuts rows into as few tiles as they need, about equally high: low ones have too few sums to keep the adders busy.
template <class T, int lanes, int vectors, int tile_rows>
void multiply_panel(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth,
                    const PackedPanel<T>& panel, GemmOut<T> out) {
  if (rows == 0) return;
  const int64_t most = fit_cache<T, tile_rows>(a_row) ? tile_rows : few_rows<tile_rows>;
  const int64_t tiles = (rows + most - 1) / most, height = rows / tiles, higher = rows % tiles;
  const auto multiply_some = [&](int64_t count, int64_t each) {
    if (count == 0) return;
    tiles_of<T, lanes, vectors>(each, std::make_integer_sequence<int, tile_rows>())(count, columns, depth, a, a_row,
                                                                                    a_depth, panel, out);
    a += count * each * a_row;
    out.c += count * each * out.stride;
  };
  multiply_some(higher, height + 1);
  multiply_some(tiles - higher, height);
}

template <class T, int lanes, int tile_rows>
void multiply(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_depth, const T* panel,
              int64_t panel_row, const GemmOut<T>& out) {
  const auto multiply =
      columns <= lanes ? multiply_panel<T, lanes, 1, tile_rows> : multiply_panel<T, lanes, 2, tile_rows>;
  multiply(rows, columns, depth, a, a_row, a_depth, {panel, panel_row}, out);
}

template <class T, int lanes, int vectors, int tile_rows>
void multiply_and_pack_panel(int64_t rows, int64_t depth, const T* a, int64_t a_row, int64_t a_depth,
                             const UnpackedPanel<T>& panel, GemmOut<T> out) {
  const auto first_tile = [&]<int height>() {
    multiply_tile<T, lanes, vectors, height>(vectors * lanes, depth, a, a_row, a_depth, panel, out);
    rows -= height, a += height * a_row, out.c += height * out.stride;
  };
  if (rows >= tile_rows && fit_cache<T, tile_rows>(a_row)) first_tile.template operator()<tile_rows>();
  else if (rows >= few_rows<tile_rows>) first_tile.template operator()<few_rows<tile_rows>>();
  else if (rows >= 4) first_tile.template operator()<4>();
  else first_tile.template operator()<1>();
  multiply_panel<T, lanes, vectors, tile_rows>(rows, vectors * lanes, depth, a, a_row, a_depth,
                                               {panel.packed, vectors * lanes}, out);
}

template <class T, int lanes, int tile_rows>
void multiply_and_pack(int64_t rows, const T* a, int64_t a_row, int64_t a_depth, const PanelOfB<T>& of, T* panel,
                       const GemmOut<T>& out) {
  const auto multiply = of.columns == lanes ? multiply_and_pack_panel<T, lanes, 1, tile_rows>
                                            : multiply_and_pack_panel<T, lanes, 2, tile_rows>;
  multiply(rows, of.depth, a, a_row, a_depth, {of.b, of.stride, of.next ? of.next : of.b, panel}, out);
}

// The kernel for vectors of so many bytes and tiles of so many rows: as many sums as leave room for B and A.
template <class T, int bytes, int tile_rows, int lanes = bytes / static_cast<int>(sizeof(T))>
constexpr GemmKernel<T> gemm_kernel = {.width = 2 * lanes,
                                       .pack = pack<T, lanes>,
                                       .multiply = multiply<T, lanes, tile_rows>,
                                       .multiply_and_pack = multiply_and_pack<T, lanes, tile_rows>,
                                       .transpose = transpose_to<T, lanes>};

}  // namespace

}  // namespace xent::cpu
