// Channels: what the two batch norms share: images as a matrix [rows, channels], sums per channel, and a pass over the
// rows with some numbers per channel, which lie in the workspace behind the partial sums.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/cpu/row_sums.h>

namespace xent::cpu {

inline int64_t rows_of(const Shape& images) { return images.product(0, 3); }

// Bytes for the sums of two kinds, and so many numbers per channel.
template <int64_t numbers>
size_t channels_workspace(const Call& call) {
  const Slice& x = call.in[0];
  return RowSums(rows_of(x.shape), x.shape[3], 2).workspace() +
         static_cast<size_t>(numbers * x.shape[3]) * size_of(x.dtype);
}

template <class T>
struct Channels {
  int64_t rows, count;
  RowSums sums;
  T* numbers;

  explicit Channels(const Call& call)
      : rows(rows_of(call.in[0].shape)),
        count(call.in[0].shape[3]),
        sums(rows, count, 2),
        numbers(reinterpret_cast<T*>(static_cast<std::byte*>(call.workspace) + sums.workspace())) {}

  T* number(int64_t k) const { return numbers + k * count; }

  // Calls body(at) for every row, which begins at element `at`.
  template <class Body>
  void each_row(const Body& body) const {
    if (count == 0) return;  // of rows without elements there may be 2^50
    parallel_for(rows, std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(count, 1)), [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * count; at < end * count; at += count) body(at);
    });
  }
};

// y = ((x - numbers 0) - numbers 1) numbers 2 + numbers 3, per channel.
template <class T>
void normalise(const Channels<T>& channels, const T* x, T* y) {
  const T *high = channels.number(0), *low = channels.number(1), *scale = channels.number(2),
          *term = channels.number(3);
  channels.each_row([=, count = channels.count](int64_t at) {
    const T* from = x + at;
    T* __restrict to = y + at;  // else every row would begin by asking whether it overlaps the numbers
    for (int64_t c = 0; c < count; ++c) to[c] = ((from[c] - high[c]) - low[c]) * scale[c] + term[c];
  });
}

// Sums of dy (x - mean) and of dy, per channel.
template <class T, class Mean>
void sum_products(const Channels<T>& channels, const T* x, const T* dy, const Mean* mean, void* workspace) {
  const auto wide = [dy, count = channels.count](int64_t row, int64_t c) {
    return static_cast<double>(dy[row * count + c]);
  };
  const auto product = [=, count = channels.count](int64_t row, int64_t c) {
    return wide(row, c) * (static_cast<double>(x[row * count + c]) - static_cast<double>(mean[c]));
  };
  channels.sums.run(
      [&](const RowChunk& part, double* const* to) {
        sum_rows(part, product, to[0]);
        sum_rows(part, wide, to[1]);
      },
      workspace);
}

}  // namespace xent::cpu
