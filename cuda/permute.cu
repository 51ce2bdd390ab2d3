// permute:  y[i_0, ..., i_n] = x[j]  with j[axes[k]] = i_k            dx = dy, permuted by the inverse
//
// Bytes are moved, whatever they mean: x is read and y written once. Where y's last axis is x's too, or where one of
// theirs is short, a thread looks up where its part of y comes from, in words of up to 16 bytes in the first case. Else
// the two axes are transposed in tiles through shared memory: read along x's rows, written along y's.
#include <algorithm>

#include <xent/cuda/axes.cuh>
#include <xent/cuda/call.cuh>
#include <xent/cuda/words.cuh>
#include <xent/ops/permute.h>

namespace xent::cuda {

namespace {

constexpr int tile = 32, tile_rows = 8;
constexpr int most_blocks = 2048;  // each takes several tiles of a large tensor
constexpr int short_extent = 8;    // of an axis that would leave most of a tile empty

template <class Word>
__global__ void __launch_bounds__(threads_per_block)
    gather(const MergedAxes from, const Word* x, Word* y, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) y[i] = x[from.offset(i)];
}

template <class Word>
__global__ void __launch_bounds__(tile* tile_rows)
    transpose_tiles(const Walk walk, const Word* x, Word* y, Divisor across, Divisor down, int64_t tiles) {
  using Row = Word[tile + 1];  // one more, against bank conflicts
  XENT_SHARED(Row, values, tile);
  const auto last = walk.parts[0], other = walk.parts[walk.contiguous];
  const int lane = static_cast<int>(threadIdx.x), first = static_cast<int>(threadIdx.y);
  for (int64_t item = blockIdx.x; item < tiles; item += gridDim.x) {
    const auto [line, place] = across.of(item);
    const auto [matrix, level] = down.of(line);
    const auto start = walk.start(matrix);
    const int64_t column = place * tile, row = level * tile;
    const int64_t columns = last.extent - column, rows = other.extent - row;
    for (int c = first; c < tile; c += tile_rows)
      if (c < columns && lane < rows) values[c][lane] = x[start.from + (column + c) * last.from + row + lane];
    __syncthreads();
    for (int r = first; r < tile; r += tile_rows)
      if (r < rows && lane < columns) y[start.to + (row + r) * other.to + column + lane] = values[lane][r];
    __syncthreads();  // the next tile comes into the same place
  }
}

// In words of `bytes`: elements, or more of a row of x that is one of y as well.
void start_gather(const Call& call, const Walk& walk, const Slice& x, const Slice& y, int bytes) {
  const int size = static_cast<int>(size_of(x.dtype));
  MergedAxes from;
  for (int k = 0; k < walk.rank; ++k) {
    const auto& part = walk.parts[k];
    if (bytes == size) from.push(part.extent, part.from);
    else from.push(k == 0 ? part.extent * size / bytes : part.extent, k == 0 ? 1 : part.from * size / bytes);
  }
  const int64_t count = x.shape.elements() * size / bytes;
  dispatch_word(bytes, [&]<class Word>() {
    start(call, "permute", {blocks_for(count)}, gather<Word>, from, x.as<Word>(), y.as<Word>(), count);
  });
}

void permute(const Call& call, const Slice& x, const Axes& axes, const Slice& y) {
  if (x.shape.elements() == 0) return;
  const Walk walk(x.shape, axes);
  const int size = static_cast<int>(size_of(x.dtype));
  const auto last = walk.parts[0], other = walk.parts[walk.contiguous];
  if (walk.contiguous == 0) {
    int bytes = word_size({last.extent * size, address_of(x.data), address_of(y.data)});
    for (int k = 1; k < walk.rank; ++k) bytes = word_size({bytes, walk.parts[k].from * size});
    start_gather(call, walk, x, y, bytes);
  } else if (std::min(last.extent, other.extent) < short_extent) {
    start_gather(call, walk, x, y, size);
  } else {
    const int64_t across = (last.extent + tile - 1) / tile, down = (other.extent + tile - 1) / tile;
    const int64_t tiles = x.shape.elements() / (last.extent * other.extent) * across * down;
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, most_blocks));
    dispatch_word(size, [&]<class Word>() {
      start(call, "permute", {blocks, dim3(tile, tile_rows)}, transpose_tiles<Word>, walk, x.as<Word>(), y.as<Word>(),
            Divisor(across), Divisor(down), tiles);
    });
  }
}

}  // namespace

void permute(const Call& call) {
  permute(call, call.in[0], resolved(call.attrs.as<PermuteAttrs>(), call.in[0].shape.rank()), call.out[0]);
}

void permute_grad(const Call& call) {
  const int rank = call.grad_in[0].shape.rank();
  permute(call, call.grad_out[0], inverse(resolved(call.attrs.as<PermuteAttrs>(), rank), rank), call.grad_in[0]);
}

}  // namespace xent::cuda
