// leaky_relu:  y_i = x_i if x_i > 0, else slope x_i      dx_i = dy_i if x_i > 0, else slope dy_i
#include <xent/cuda/call.cuh>

#include "cuda_own_op.h"

namespace xent::cuda {

namespace {

template <class T>
__global__ void forward(T slope, const T* x, T* y, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) y[i] = x[i] <= 0 ? slope * x[i] : x[i];
}

template <class T>
__global__ void backward(T slope, const T* x, const T* dy, T* dx, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) dx[i] = x[i] <= 0 ? slope * dy[i] : dy[i];
}

template <class T>
T slope_of(const Call& call) {
  return static_cast<T>(call.attrs.as<LeakyReluAttrs>().slope);
}

}  // namespace

void leaky_relu(const Call& call) {
  const Slice& x = call.in[0];
  const int64_t count = x.shape.elements();
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "leaky_relu", {blocks_for(count), threads_per_block}, forward<T>, slope_of<T>(call), x.as<T>(),
          call.out[0].as<T>(), count);
  });
}

void leaky_relu_grad(const Call& call) {
  const Slice& x = call.in[0];
  const int64_t count = x.shape.elements();
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "leaky_relu_grad", {blocks_for(count), threads_per_block}, backward<T>, slope_of<T>(call), x.as<T>(),
          call.grad_out[0].as<T>(), call.grad_in[0].as<T>(), count);
  });
}

// With a wrong factor, for the test of the check.
void leaky_relu_wrong_grad(const Call& call) {
  const Slice& x = call.in[0];
  const int64_t count = x.shape.elements();
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "leaky_relu_wrong_grad", {blocks_for(count), threads_per_block}, backward<T>,
          slope_of<T>(call) * T(1.001), x.as<T>(), call.grad_out[0].as<T>(), call.grad_in[0].as<T>(), count);
  });
}

}  // namespace xent::cuda
