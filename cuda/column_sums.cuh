// column_sums: sums over the rows of a matrix, of numbers that are read or computed as they are summed: bias gradients,
// means over the pixels of an image.
//
//   sum_columns(call, "bias_grad", rows, columns, rows, Elements<float>{dz, columns}, BiasGrad<float>{db, beta});
//
// Rows are cut into parts of so many, and each part has sums of its own. Neighbouring threads take neighbouring
// columns; a block's rows of threads share the rows of a part, and their sums are added in a tree. All in f64, which
// costs nothing beside the reading, and in an order that only the shape decides: no atomics.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/cuda/divisor.cuh>

namespace xent::cuda {

namespace kernels {

// store(part, column, sum of value(row, column) over the rows of the part). The block is [2^a, 2^b], at most 256.
template <class Value, class Store>
__global__ void __launch_bounds__(256)
    column_sums(int64_t rows, int64_t columns, int64_t part_rows, int64_t parts, Value value, Store store) {
  XENT_SHARED(double, sums, 256);
  const unsigned x = threadIdx.x, y = threadIdx.y, width = blockDim.x, height = blockDim.y;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * width + x;
  for (int64_t part = blockIdx.y; part < parts; part += gridDim.y) {
    const int64_t begin = part * part_rows, end = rows - begin < part_rows ? rows : begin + part_rows;
    double sum = 0;
    if (column < columns)
      for (int64_t row = begin + y; row < end; row += height) sum += static_cast<double>(value(row, column));
    sums[y * width + x] = sum;
    for (unsigned half = height / 2; half > 0; half /= 2) {
      __syncthreads();
      if (y < half) sums[y * width + x] += sums[(y + half) * width + x];
    }
    if (y == 0 && column < columns) store(part, column, sums[x]);
    __syncthreads();  // the next part's sums go where the last ones of this are read
  }
}

// Where sums are not wanted, but what computing the numbers leaves behind is.
template <class Value>
__global__ void each_value(int64_t count, Divisor columns, Value value) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) {
    const auto [row, column] = columns.of(i);
    value(row, column);
  }
}

}  // namespace kernels

// ---- what is summed, and where sums go ----

template <class T>
struct Elements {
  const T* data;
  int64_t columns;

  __device__ T operator()(int64_t row, int64_t column) const { return data[row * columns + column]; }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
  }
};

// The sums of all parts, [parts, columns].
struct Partials {
  double* data;
  int64_t columns;

  __device__ void operator()(int64_t part, int64_t column, double sum) const { data[part * columns + column] = sum; }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
  }
};

// The one part's, with what beta keeps.
template <class T>
struct BiasGrad {
  T* data;
  float beta;

  __device__ void operator()(int64_t, int64_t column, double sum) const {
    data[column] = static_cast<T>(beta == 0 ? sum : sum + static_cast<double>(data[column]));
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
  }
};

// ---- launches ----

// Sums over parts of part_rows rows each, the last of which may be short; without rows there is one part, and its sums
// are 0.
template <class Value, class Store>
void sum_columns(const Call& call, const char* name, int64_t rows, int64_t columns, int64_t part_rows,
                 const Value& value, const Store& store) {
  constexpr int64_t threads = 256, most_blocks = 32768;
  const int64_t parts = rows == 0 ? 1 : rows / part_rows + (rows % part_rows != 0);
  const auto power = [](int64_t extent, int64_t most) {
    return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(extent, 1, most))));
  };
  const int64_t height = power(part_rows, threads / power(columns, 32));  // a warp along the columns, if there are
  const int64_t width = power(columns, threads / height);
  const dim3 blocks(static_cast<unsigned>(columns / width + (columns % width != 0)),
                    static_cast<unsigned>(std::min(parts, most_blocks)));
  const dim3 shape(static_cast<unsigned>(width), static_cast<unsigned>(height));
  start(call, name, {blocks, shape, 0, threads}, kernels::column_sums<Value, Store>, rows, columns, part_rows, parts,
        value, store);
}

// A bias gradient over many rows is summed in parts, and then over the parts.
inline int64_t bias_grad_part(int64_t rows) {
  constexpr int64_t at_once = 512, part = 256, most_parts = 256;
  return rows <= at_once ? std::max<int64_t>(rows, 1) : std::max(part, (rows - 1) / most_parts + 1);
}

// Bytes for the sums of the parts.
inline size_t bias_grad_workspace(int64_t rows, int64_t columns) {
  const int64_t part = bias_grad_part(rows);
  return rows <= part ? 0 : static_cast<size_t>((rows - 1) / part + 1) * static_cast<size_t>(columns) * sizeof(double);
}

// db = beta db + the sum of value(row, column) over all rows; each is computed once. Without db they are only computed.
template <class T, class Value>
void bias_grad(const Call& call, int64_t rows, int64_t columns, const Value& value, const Slice& db,
               double* workspace) {
  const int64_t part = bias_grad_part(rows);
  const BiasGrad<T> store{db.as<T>(), db.beta};
  if (!db) {
    start(call, "each_value", {blocks_for(rows * columns)}, kernels::each_value<Value>, rows * columns,
          Divisor(columns), value);
  } else if (rows <= part) {
    sum_columns(call, "bias_grad", rows, columns, part, value, store);
  } else {
    const int64_t parts = (rows - 1) / part + 1;
    sum_columns(call, "bias_grad", rows, columns, part, value, Partials{workspace, columns});
    sum_columns(call, "bias_grad_total", parts, columns, parts, Elements<double>{workspace, columns}, store);
  }
}

}  // namespace xent::cuda
