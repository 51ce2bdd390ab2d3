// batch_norm2d:  y = (x - m) r w + b,  r = 1 / sqrt(v + epsilon)     m, v: mean and variance of a channel in the batch
//                dx = r w (dy - mean(dy) - h mean(dy h)),  h = (x - m) r;    dw = sum of dy h,  db = sum of dy
// batch_norm2d_frozen:  the same y with given m and v;    dx = r w dy
//
// Images are a matrix [rows, channels]. Forward reads x twice, for the statistics and for y; backward x and dy twice,
// for both sums and for dx: 3 and 5 transfers per element. Statistics and sums are in f64, as what is kept for backward
// is; x - m is in the tensor's type, without a loss (ops/centred.h). While the error record is set, the running
// statistics stay as they are.
#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/call.cuh>
#include <xent/cuda/moments.cuh>
#include <xent/ops/batch_norm2d.h>
#include <xent/ops/centred.h>

namespace xent::cuda {

namespace {

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

// Mean and inverse deviation, and the running statistics.
template <class T>
struct KeepStatistics {
  double *means, *inverses;
  T *running_mean, *running_var;
  const ErrorRecord* errors;
  double momentum, epsilon;

  __device__ void operator()(int64_t c, const Moments& moments) const {
    const double mean = moments.sum / moments.count;
    means[c] = mean;
    inverses[c] = 1 / sqrt(moments.squares / moments.count + epsilon);
    if (errors->kind != ErrorRecord::Kind::none) return;
    const auto blend = [&](T& running, double now) {
      running = static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * now);
    };
    blend(running_mean[c], mean);
    blend(running_var[c], moments.squares / (moments.count - 1));
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(means), f(inverses), f(running_mean), f(running_var), f(errors);
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

template <class T>
struct NormaliseGrad {
  const T *x, *dy, *weight;
  const double *means, *inverses;
  const Sums<2>* sums;
  double rows;

  struct Channel {
    const T *x, *dy;
    Centred<T> centred;
    T scale, mean, slope;
    __device__ T operator()(int64_t i) const { return scale * ((dy[i] - mean) - centred(x[i]) * slope); }
  };
  __device__ Channel of(int64_t c) const {
    const double inverse = inverses[c];
    return {x,
            dy,
            Centred<T>(means[c]),
            static_cast<T>(inverse) * (weight ? weight[c] : T(1)),
            static_cast<T>(sums[c].of[1] / rows),
            static_cast<T>(sums[c].of[0] / rows * inverse * inverse)};
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(x), f(dy), f(weight), f(means), f(inverses), f(sums);
  }
};

template <class T>
struct FrozenGrad {
  const T *dy, *weight;
  Statistics<T> statistics;

  struct Channel {
    const T* dy;
    T scale;
    __device__ T operator()(int64_t i) const { return dy[i] * scale; }
  };
  __device__ Channel of(int64_t c) const {
    return {dy, static_cast<T>(statistics.inverse_of(c)) * (weight ? weight[c] : T(1))};
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(dy), f(weight);
    statistics.for_each_pointer(f);
  }
};

template <class T>
Statistics<T> frozen_statistics(const Call& call) {
  return {call.in[3].as<T>(), nullptr, call.in[4].as<T>(), call.attrs.as<BatchNormAttrs>().epsilon};
}

}  // namespace

void batch_norm2d(const Call& call) {
  const auto& attrs = call.attrs.as<BatchNormAttrs>();
  const Images images(call.in[0].shape);
  auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T* x = call.in[0].as<T>();
    sum_axes(call, "batch_norm2d", images.matrix(), 0b01, MomentsOf<T>{x},
             KeepStatistics<T>{means, inverses, call.in[3].as<T>(), call.in[4].as<T>(), errors_of(call), attrs.momentum,
                               attrs.epsilon},
             call.workspace);
    start_each_pixel(call, "batch_norm2d", images,
                     Normalise<T, double>{x, call.in[1].as<T>(), call.in[2].as<T>(), {means, inverses, nullptr, 0}},
                     call.out[0].as<T>());
  });
}

size_t batch_norm2d_workspace(const Call& call) {
  return AxisSum(Images(call.in[0].shape).matrix(), 0b01).workspace<Moments>();
}

void batch_norm2d_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const Images images(call.in[0].shape);
  const auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  auto* sums = static_cast<Sums<2>*>(call.workspace);  // of each channel; then comes the workspace of the sums
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T *x = call.in[0].as<T>(), *dy = call.grad_out[0].as<T>();
    sum_axes(call, "batch_norm2d", images.matrix(), 0b01, GradTerms<T, double>{x, dy, means},
             AffineGrad<T, double>{{means, inverses, nullptr, 0}, dw.as<T>(), db.as<T>(), sums},
             sums + images.channels);
    if (dx)
      start_each_pixel(
          call, "batch_norm2d", images,
          NormaliseGrad<T>{x, dy, call.in[1].as<T>(), means, inverses, sums, static_cast<double>(images.rows)},
          dx.as<T>());
  });
}

size_t batch_norm2d_grad_workspace(const Call& call) {
  const Images images(call.in[0].shape);
  return static_cast<size_t>(images.channels) * sizeof(Sums<2>) + AxisSum(images.matrix(), 0b01).workspace<Sums<2>>();
}

void batch_norm2d_frozen(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    start_each_pixel(
        call, "batch_norm2d_frozen", Images(call.in[0].shape),
        Normalise<T, T>{call.in[0].as<T>(), call.in[1].as<T>(), call.in[2].as<T>(), frozen_statistics<T>(call)},
        call.out[0].as<T>());
  });
}

void batch_norm2d_frozen_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const Images images(call.in[0].shape);
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T* dy = call.grad_out[0].as<T>();
    const Statistics<T> statistics = frozen_statistics<T>(call);
    if (dx)
      start_each_pixel(call, "batch_norm2d_frozen", images, FrozenGrad<T>{dy, call.in[1].as<T>(), statistics},
                       dx.as<T>());
    if (dw || db)
      sum_axes(call, "batch_norm2d_frozen", images.matrix(), 0b01,
               GradTerms<T, T>{call.in[0].as<T>(), dy, call.in[3].as<T>()},
               AffineGrad<T, T>{statistics, dw.as<T>(), db.as<T>(), nullptr}, call.workspace);
  });
}

size_t batch_norm2d_frozen_grad_workspace(const Call& call) {
  return AxisSum(Images(call.in[0].shape).matrix(), 0b01).workspace<Sums<2>>();
}

}  // namespace xent::cuda
