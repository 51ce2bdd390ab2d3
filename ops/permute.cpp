// permute:  y[i_0, ..., i_n] = x[j]  with j[axes[k]] = i_k            dx = dy, permuted by the inverse
//
// Axes of extent 1 are dropped, and axes that stay neighbours are merged. If the last axis stays the last one, rows are
// copied; else the last axes of x and y are transposed in tiles, each read in rows into a small buffer and written in
// rows from it.
#include <algorithm>
#include <array>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/ops.h>
#include <xent/ops/permute.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 15;  // elements per chunk
constexpr int64_t tile_elements = 1 << 10;
constexpr int64_t tile_width = 32;  // of a square tile

Specs infer_permute(std::span<const Spec> in, const Attrs& attributes) {
  const auto& attrs = attributes.as<PermuteAttrs>();
  const Shape& x = in[0].shape;
  const auto rank = static_cast<size_t>(x.rank());
  const Axes axes = resolved(attrs, x.rank());
  Mask seen = 0;
  for (size_t k = 0; k < rank; ++k)
    if (axes[k] >= 0) seen |= Mask{1} << axes[k];
  if (attrs.count != rank || seen != (Mask{1} << rank) - 1)
    fail<ShapeError>("permute: axes [{}] are no permutation of the {} axes of {}",
                     fmt::join(std::span(attrs.axes.data(), std::min(attrs.count, attrs.axes.size())), ", "), rank, x);
  Axes extents{};
  for (size_t k = 0; k < rank; ++k) extents[k] = x[axes[k]];
  return {{Shape(std::span<const int64_t>(extents.data(), rank)), in[0].dtype}};
}

}  // namespace

namespace cpu {

template <class T>
void copy_rows(const Walk& walk, int64_t elements, const T* x, T* y) {
  const int64_t width = walk.parts[0].extent, piece = std::min(width, grain), pieces = (width + piece - 1) / piece;
  parallel_for(elements / width * pieces, std::max<int64_t>(1, grain / piece), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const auto [from, to] = walk.start(item / pieces);
      const int64_t at = item % pieces * piece;
      std::copy_n(x + from + at, std::min(piece, width - at), y + to + at);
    }
  });
}

template <class T>
void transpose_tiles(const Walk& walk, int64_t elements, const T* x, T* y) {
  const auto last = walk.parts[0], other = walk.parts[walk.contiguous];
  // A tile is square, or as long in one direction as it is narrow in the other.
  const int64_t least = std::min(last.extent, tile_width), height = std::min(other.extent, tile_elements / least);
  const int64_t width = std::min(last.extent, tile_elements / height);
  const int64_t across = (last.extent + width - 1) / width, down = (other.extent + height - 1) / height;
  const int64_t outer = elements / (last.extent * other.extent);
  parallel_for(outer * across * down, std::max<int64_t>(1, grain / (width * height)), [&](int64_t begin, int64_t end) {
    std::array<T, tile_elements> tile;  // [columns, rows]: as x has it
    for (int64_t item = begin; item < end; ++item) {
      const auto [from, to] = walk.start(item / (across * down));
      const int64_t column = item % across * width, row = item / across % down * height;
      const int64_t columns = std::min(width, last.extent - column), rows = std::min(height, other.extent - row);
      const T* source = x + from + column * last.from + row;
      T* target = y + to + row * other.to + column;
      for (int64_t c = 0; c < columns; ++c) std::copy_n(source + c * last.from, rows, tile.data() + c * rows);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) target[r * other.to + c] = tile[static_cast<size_t>(c * rows + r)];
    }
  });
}

void permute(const Slice& x, const Axes& axes, const Slice& y) {
  if (x.shape.elements() == 0) return;
  const Walk walk(x.shape, axes);
  dispatch(x.dtype, [&]<class T>() {
    if (walk.contiguous == 0) copy_rows(walk, x.shape.elements(), x.as<T>(), y.as<T>());
    else transpose_tiles(walk, x.shape.elements(), x.as<T>(), y.as<T>());
  });
}

void permute(const Call& call) {
  permute(call.in[0], resolved(call.attrs.as<PermuteAttrs>(), call.in[0].shape.rank()), call.out[0]);
}

void permute_grad(const Call& call) {
  const int rank = call.grad_in[0].shape.rank();
  permute(call.grad_out[0], inverse(resolved(call.attrs.as<PermuteAttrs>(), rank), rank), call.grad_in[0]);
}

}  // namespace cpu

namespace {

PermuteAttrs attrs_of(std::span<const int64_t> axes) {
  PermuteAttrs attrs{{}, axes.size()};  // too many are refused by the shape rule
  std::copy_n(axes.begin(), std::min(axes.size(), attrs.axes.size()), attrs.axes.begin());
  return attrs;
}

// A row copy, tiles of all forms, more axes than two, and sizes of several chunks.
Samples permute_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, std::initializer_list<int64_t> axes) {
    return Sample{{normal_sample(shape, dtype, 1)}, attrs_of(std::span(axes.begin(), axes.size()))};
  };
  return {sample({3, 5}, {1, 0}),
          sample({}, {}),
          sample({2, 3, 4, 5}, {0, 3, 1, 2}),
          sample({2, 3, 4, 5}, {0, 2, 3, 1}),
          sample({2, 1, 3, 5}, {2, 1, 0, 3}),
          sample({5, 3, 2, 7}, {3, 2, 1, 0}),
          sample({211, 190}, {1, 0}),
          sample({3, 70, 180}, {1, 0, 2})};
}

}  // namespace

constinit const Op permute_op = {
    .name = "permute",
    .formula = "axis i of y is axis axes[i] of x",
    .infer = infer_permute,
    .forward = {cpu::permute, ON_CUDA(permute)},
    .backward = {cpu::permute_grad, ON_CUDA(permute_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = permute_samples,
};

Tensor permute(const Tensor& x, std::span<const int64_t> axes) { return apply(permute_op, {x}, attrs_of(axes))[0]; }

}  // namespace xent
