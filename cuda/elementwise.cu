// relu, tanh, sigmoid, gelu, exp, log, sqrt, scale, shift:  y_i = f(x_i)      dx_i = dy_i f'(v_i), v: x or y
//
// The functions are those of ops/elementwise.h, computed and rounded in the tensor's own type. Forward moves 2 values
// per element, backward 3, or 2 where f' is a constant. 16 bytes at a time where all tensors begin at a multiple of it.
#include <xent/cuda/call.cuh>
#include <xent/cuda/pack.cuh>
#include <xent/ops/elementwise.h>

namespace xent::cuda {

namespace {

template <class F, class T>
__global__ void __launch_bounds__(threads_per_block) map_kernel(F f, const T* x, T* y, int64_t packs, int64_t count) {
  constexpr int size = Pack<T>::size;
  for (int64_t p = first_index(); p < packs; p += grid_stride()) {
    const Pack<T> in = pack(x, p);
    Pack<T> out;
#pragma unroll
    for (int k = 0; k < size; ++k) out.values[k] = f.f(in.values[k]);
    pack(y, p) = out;
  }
  for (int64_t i = packs * size + first_index(); i < count; i += grid_stride()) y[i] = f.f(x[i]);
}

template <class F, class T>
__global__ void __launch_bounds__(threads_per_block)
    map_grad_kernel(F f, const T* v, const T* dy, T* dx, int64_t packs, int64_t count) {
  constexpr int size = Pack<T>::size;
  for (int64_t p = first_index(); p < packs; p += grid_stride()) {
    const Pack<T> at = pack(v, p), upstream = pack(dy, p);
    Pack<T> out;
#pragma unroll
    for (int k = 0; k < size; ++k) out.values[k] = upstream.values[k] * f.df(at.values[k]);
    pack(dx, p) = out;
  }
  for (int64_t i = packs * size + first_index(); i < count; i += grid_stride()) dx[i] = dy[i] * f.df(v[i]);
}

}  // namespace

template <class F>
void map(const Call& call) {
  const int64_t count = call.out[0].shape.elements();
  dispatch_compute(call.out[0].dtype, [&]<class T>() {
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    const int64_t packs = packs_in<T>(count, {x, y});
    start(call, F::name, {blocks_for_packs<T>(packs, count)}, map_kernel<F, T>, function_of<F>(call.attrs), x, y, packs,
          count);
  });
}

template <class F>
void map_grad(const Call& call) {
  const int64_t count = call.grad_in[0].shape.elements();
  dispatch_compute(call.grad_in[0].dtype, [&]<class T>() {
    const T* v = read_by_df<F>(call).template as<T>();
    const T* dy = call.grad_out[0].as<T>();
    T* dx = call.grad_in[0].as<T>();
    const int64_t packs = packs_in<T>(count, {v, dy, dx});
    start(call, F::name, {blocks_for_packs<T>(packs, count)}, map_grad_kernel<F, T>, function_of<F>(call.attrs), v, dy,
          dx, packs, count);
  });
}

template void map<scalar::Relu>(const Call&);
template void map_grad<scalar::Relu>(const Call&);
template void map<scalar::Tanh>(const Call&);
template void map_grad<scalar::Tanh>(const Call&);
template void map<scalar::Sigmoid>(const Call&);
template void map_grad<scalar::Sigmoid>(const Call&);
template void map<scalar::Gelu>(const Call&);
template void map_grad<scalar::Gelu>(const Call&);
template void map<scalar::Exp>(const Call&);
template void map_grad<scalar::Exp>(const Call&);
template void map<scalar::Log>(const Call&);
template void map_grad<scalar::Log>(const Call&);
template void map<scalar::Sqrt>(const Call&);
template void map_grad<scalar::Sqrt>(const Call&);
template void map<scalar::Scale>(const Call&);
template void map_grad<scalar::Scale>(const Call&);
template void map<scalar::Shift>(const Call&);
template void map_grad<scalar::Shift>(const Call&);

}  // namespace xent::cuda
