// fill:        x = value                       one write of x
// copy:        y = x           dx = dy         one read and one write, by the device's copy engine
// accumulate:  x += y                          two reads and one write
// put_back:    x = y if an error was found     else nothing is read but the record
//
// 16-bit sums are computed in f32 and rounded once, as on the CPU. A copy is a node of a graph like any kernel.
#include <xent/core/convert.h>
#include <xent/core/fill.h>
#include <xent/cuda/call.cuh>

namespace xent::cuda {

namespace kernels {

template <class T>
__global__ void fill(T* x, T value, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) x[i] = value;
}

template <class T>
__global__ void add_to(T* x, const T* y, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) {
    if constexpr (std::is_class_v<T>) x[i] = T(static_cast<float>(x[i]) + static_cast<float>(y[i]));
    else x[i] += y[i];
  }
}

__global__ void put_back(unsigned char* x, const unsigned char* y, int64_t bytes, const ErrorRecord* errors) {
  if (errors->kind == ErrorRecord::Kind::none) return;
  for (int64_t i = first_index(); i < bytes; i += grid_stride()) x[i] = y[i];
}

}  // namespace kernels

namespace {

void copy_bytes(const Call& call, const Slice& to, const Slice& from) {
  const size_t bytes = static_cast<size_t>(to.shape.elements()) * size_of(to.dtype);
  if (bytes > 0) check(cudaMemcpyAsync(to.data, from.data, bytes, cudaMemcpyDeviceToDevice, stream_of(call)), "copy");
}

void add_to(const Call& call, const Slice& x, const Slice& y) {
  const int64_t count = x.shape.elements();
  dispatch_floating(x.dtype, [&]<class T>() {
    start(call, "accumulate", {blocks_for(count)}, kernels::add_to<T>, x.as<T>(), y.as<T>(), count);
  });
}

}  // namespace

void fill(const Call& call) {
  const Slice& x = call.out[0];
  const int64_t count = x.shape.elements();
  dispatch(x.dtype, [&]<class T>() {
    const T value = convert<T>(call.attrs.as<FillAttrs>().value);
    start(call, "fill", {blocks_for(count)}, kernels::fill<T>, x.as<T>(), value, count);
  });
}

void copy(const Call& call) { copy_bytes(call, call.out[0], call.in[0]); }

void copy_grad(const Call& call) {
  const Slice& dx = call.grad_in[0];
  if (dx.beta == 0) copy_bytes(call, dx, call.grad_out[0]);
  else add_to(call, dx, call.grad_out[0]);
}

void accumulate(const Call& call) { add_to(call, call.in[0], call.in[1]); }

void put_back(const Call& call) {
  const Slice &x = call.in[0], &y = call.in[1];
  const int64_t bytes = x.shape.elements() * static_cast<int64_t>(size_of(x.dtype));
  start(call, "put_back", {blocks_for(bytes)}, kernels::put_back, x.as<unsigned char>(), y.as<unsigned char>(), bytes,
        errors_of(call));
}

}  // namespace xent::cuda
