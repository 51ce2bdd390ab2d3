// global_avg_pool2d on the GPU:  y = mean of x over height and width      dx = dy / (height width)
//
// An image's pixels are the rows of a part (column_sums.cuh): one launch, each element read once, sums in f64.
#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/cuda/column_sums.cuh>

namespace xent::cuda {

namespace {

template <class T>
struct Means {
  T* data;
  int64_t channels;
  double pixels;

  __device__ void operator()(int64_t image, int64_t channel, double sum) const {
    data[image * channels + channel] = static_cast<T>(sum / pixels);
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(data);
  }
};

}  // namespace

namespace kernels {

template <class T>
__global__ void __launch_bounds__(256)
    global_avg_pool2d_grad(int64_t elements, Divisor pixels, Divisor channels, T share, const T* dy, T* dx) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto [pixel, channel] = channels.of(at);
    dx[at] = share * dy[pixels.of(pixel).quotient * channels.by + channel];
  }
}

}  // namespace kernels

void global_avg_pool2d(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  if (y.shape.elements() == 0) return;
  const int64_t pixels = x.shape.product(1, 3), channels = x.shape[3];
  dispatch_compute(x.dtype, [&]<class T>() {
    sum_columns(call, "global_avg_pool2d", x.shape[0] * pixels, channels, pixels, Elements<T>{x.as<T>(), channels},
                Means<T>{y.as<T>(), channels, static_cast<double>(pixels)});
  });
}

void global_avg_pool2d_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dy = call.grad_out[0];
  const int64_t pixels = dx.shape.product(1, 3), elements = dx.shape.elements();
  dispatch_compute(dx.dtype, [&]<class T>() {
    start(call, "global_avg_pool2d_grad", {blocks_for(elements), threads_per_block, 0, threads_per_block},
          kernels::global_avg_pool2d_grad<T>, elements, Divisor(pixels), Divisor(dx.shape[3]),
          static_cast<T>(1 / static_cast<double>(pixels)), dy.as<T>(), dx.as<T>());
  });
}

}  // namespace xent::cuda
