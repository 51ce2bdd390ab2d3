// pick:  y_r = x[r, index_r]      dx[r, c] = dy_r if c == index_r, else 0
//
// Reads one element of a row, whatever its length. A row whose index is no class has no element: NaN, and a gradient
// of zeros, beside the error that check_labels has noted.
#include <xent/cuda/divisor.cuh>
#include <xent/cuda/label_check.cuh>

namespace xent::cuda {

namespace kernels {

template <class T>
__global__ void pick(const T* x, Labels index, T* y) {
  for (int64_t r = first_index(); r < index.count; r += grid_stride()) {
    const int64_t c = index[r];
    y[r] = index.is_class(c) ? x[r * index.classes + c] : static_cast<T>(NAN);
  }
}

template <class T>
__global__ void pick_grad(const T* dy, Labels index, Divisor classes, T* dx) {
  const int64_t elements = index.count * index.classes;
  for (int64_t i = first_index(); i < elements; i += grid_stride()) {
    const auto [r, c] = classes.of(i);
    dx[i] = c == index[r] ? dy[r] : T(0);
  }
}

}  // namespace kernels

namespace {

Labels labels_of(const Slice& index, int64_t classes) {
  return {.data = index.data, .dtype = index.dtype, .count = index.shape.elements(), .classes = classes};
}

}  // namespace

void pick(const Call& call) {
  const Slice &x = call.in[0], &index = call.in[1];
  check_labels(call, "pick", index, x.shape[-1]);
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "pick", {blocks_for(index.shape.elements())}, kernels::pick<T>, x.as<T>(),
          labels_of(index, x.shape[-1]), call.out[0].as<T>());
  });
}

void pick_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &index = call.in[1];
  dispatch_compute(dx.dtype, [&]<class T>() {
    start(call, "pick_grad", {blocks_for(dx.shape.elements())}, kernels::pick_grad<T>, call.grad_out[0].as<T>(),
          labels_of(index, dx.shape[-1]), Divisor(dx.shape[-1]), dx.as<T>());
  });
}

}  // namespace xent::cuda
