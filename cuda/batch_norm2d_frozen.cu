// batch_norm2d_frozen:  y = (x - m) r w + b,  r = 1 / sqrt(v + epsilon)     m, v: given, of each channel
//                       dx = r w dy;    dw = sum of dy (x - m) r,  db = sum of dy
//
// Forward moves 2 values per element; backward 2 for dx, and 2 for both sums, which are in f64.
#include <xent/cuda/batch_norm.cuh>

namespace xent::cuda {

namespace {

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
