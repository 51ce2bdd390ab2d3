// batch_norm2d:  y = (x - m) r w + b,  r = 1 / sqrt(v + epsilon)     m, v: mean and variance of a channel in the batch
//                dx = r w (dy - mean(dy) - h mean(dy h)),  h = (x - m) r;    dw = sum of dy h,  db = sum of dy
//
// Forward reads x twice, for the statistics and for y; backward x and dy twice, for both sums and for dx: 3 and 5
// transfers per element. Statistics and sums are in f64, as what is kept for backward is; x - m is in the tensor's
// type, without a loss (ops/centred.h). While the error record is set, the running statistics stay as they are.
#include <xent/cuda/batch_norm.cuh>
#include <xent/cuda/moments.cuh>

namespace xent::cuda {

namespace {

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

}  // namespace xent::cuda
