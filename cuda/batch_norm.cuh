// What batch_norm2d and batch_norm2d_frozen share: images as a matrix [rows, channels], and y of each element, dw and
// db of each channel from its statistics.
#pragma once

#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/call.cuh>
#include <xent/ops/batch_norm2d.h>
#include <xent/ops/centred.h>

namespace xent::cuda {

struct Images {
  int64_t rows, channels;
  explicit Images(const Shape& shape) : rows(shape.product(0, 3)), channels(shape[3]) {}
  Shape matrix() const { return {rows, channels}; }
  int64_t elements() const { return rows * channels; }

  // How many elements a thread skips from one of its own to the next: whole rows, so that it stays with its channel.
  int64_t step() const {
    constexpr int threads = 1 << 18;
    const int64_t rows_at_once = channels < threads ? threads / channels : 1;
    return channels * (rows_at_once < rows ? rows_at_once : rows);
  }
};

// y_i = f(i) with f = per_channel.of(channel), which is asked once per thread.
template <class PerChannel, class T>
__global__ void __launch_bounds__(threads_per_block)
    each_pixel(const PerChannel per_channel, int64_t channels, int64_t step, int64_t elements, T* y) {
  for (int64_t first = first_index(); first < step; first += grid_stride()) {
    const auto f = per_channel.of(first % channels);
    for (int64_t i = first; i < elements; i += step) y[i] = f(i);
  }
}

template <class PerChannel, class T>
void start_each_pixel(const Call& call, const char* name, const Images& images, const PerChannel& per_channel, T* y) {
  if (images.elements() == 0) return;
  start(call, name, {blocks_for(images.step())}, each_pixel<PerChannel, T>, per_channel, images.channels, images.step(),
        images.elements(), y);
}

// What each channel is normalised with: kept by the forward of a batch, or given as variances.
template <class Mean>
struct Statistics {
  const Mean *mean, *inverse;  // of batch_norm2d
  const Mean* variance;        // of batch_norm2d_frozen; else null
  double epsilon;

  __device__ double inverse_of(int64_t c) const {
    return variance ? 1 / sqrt(static_cast<double>(variance[c]) + epsilon) : static_cast<double>(inverse[c]);
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(mean), f(inverse), f(variance);
  }
};

template <class T, class Mean>
struct Normalise {
  const T *x, *weight, *bias;
  Statistics<Mean> statistics;

  struct Channel {
    const T* x;
    Centred<T> centred;
    T scale, term;
    __device__ T operator()(int64_t i) const { return centred(x[i]) * scale + term; }
  };
  __device__ Channel of(int64_t c) const {
    return {x, Centred<T>(static_cast<double>(statistics.mean[c])),
            static_cast<T>(statistics.inverse_of(c)) * (weight ? weight[c] : T(1)), bias ? bias[c] : T(0)};
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(x), f(weight), f(bias);
    statistics.for_each_pointer(f);
  }
};

// dy (x - mean) and dy, of a channel.
template <class T, class Mean>
struct GradTerms {
  using Value = Sums<2>;
  using Running = Sums<2>;
  const T *x, *dy;
  const Mean* mean;

  __device__ void add(Sums<2>& running, const Place& place) const {
    const auto upstream = static_cast<double>(dy[place.element]);
    running.of[0] += upstream * (static_cast<double>(x[place.element]) - static_cast<double>(mean[place.output]));
    running.of[1] += upstream;
  }
  __device__ Sums<2> finish(const Sums<2>& running) const { return running; }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(x), f(dy), f(mean);
  }
};

// dw and db, and both sums for dx; each may be null.
template <class T, class Mean>
struct AffineGrad {
  Statistics<Mean> statistics;
  T *dw, *db;
  Sums<2>* kept;

  __device__ void operator()(int64_t c, const Sums<2>& sums) const {
    if (dw) dw[c] = static_cast<T>(sums.of[0] * statistics.inverse_of(c));
    if (db) db[c] = static_cast<T>(sums.of[1]);
    if (kept) kept[c] = sums;
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    statistics.for_each_pointer(f);
    f(dw), f(db), f(kept);
  }
};

}  // namespace xent::cuda
