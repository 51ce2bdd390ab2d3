// slice_rows:  y_i = x_(begin + i)                dx_i = dy_(i - begin) for rows in [begin, end), else 0
//
// The forward is a view. Backward writes all of dx, or adds to the rows of the slice alone.
#include <xent/cuda/call.cuh>
#include <xent/ops/reshape.h>

namespace xent::cuda {

namespace {

// dy is the elements [first, first + inside) of dx.
template <class T>
__global__ void __launch_bounds__(threads_per_block)
    write_slice(const T* dy, int64_t first, int64_t inside, T* dx, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride())
    dx[i] = i >= first && i - first < inside ? dy[i - first] : T(0);
}

template <class T>
__global__ void __launch_bounds__(threads_per_block) add_slice(const T* dy, T* dx, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) {
    if constexpr (std::is_class_v<T>) dx[i] = T(static_cast<float>(dx[i]) + static_cast<float>(dy[i]));  // 16 bits
    else dx[i] = static_cast<T>(dx[i] + dy[i]);
  }
}

}  // namespace

void slice_rows_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dy = call.grad_out[0];
  const int64_t first = call.attrs.as<RowsAttrs>().begin * dx.shape.product(1, dx.shape.rank());
  const int64_t inside = dy.shape.elements(), count = dx.shape.elements();
  if (dx.beta != 0)
    dispatch_floating(dx.dtype, [&]<class T>() {
      start(call, "slice_rows", {blocks_for(inside)}, add_slice<T>, dy.as<T>(), dx.as<T>() + first, inside);
    });
  else
    dispatch(dx.dtype, [&]<class T>() {
      start(call, "slice_rows", {blocks_for(count)}, write_slice<T>, dy.as<T>(), first, inside, dx.as<T>(), count);
    });
}

}  // namespace xent::cuda
