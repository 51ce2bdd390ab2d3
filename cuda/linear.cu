// linear on the GPU:  y = f(x w + b);  dz = dy f'(z),  dx = dz w',  dw = x' dz,  db = sum of dz over the rows
//
// Forward is one launch without an activation and two with one (bias_activation.cuh); backward is one pass over dy that
// makes dz and db at once, where there is an activation or a bias, and a product for each of dx and dw. Products are in
// f32 or f64 as the tensors are; db is summed in f64 and rounded once.
#include <xent/cuda/bias_activation.cuh>
#include <xent/ops/linear.h>

namespace xent {

namespace {

int64_t rows_of(const Slice& x) { return x.shape.product(0, x.shape.rank() - 1); }

cuda::GradWorkspace grad_workspace_of(const Call& call) {
  const Slice& x = call.in[0];
  return {call.attrs.as<LinearAttrs>().activation, rows_of(x), call.in[1].shape[1], x.dtype};
}

}  // namespace

size_t cuda::linear_grad_workspace(const Call& call) { return grad_workspace_of(call).bytes(); }

void cuda::linear(const Call& call) {
  const Slice &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  dispatch_compute(y.dtype, [&]<class T>() {
    gemm_activation<T>(call, {rows_of(x), weight.shape[1], weight.shape[0]}, x.as<T>(), weight.as<T>(), bias.as<T>(),
                       call.attrs.as<LinearAttrs>().activation, y.as<T>());
  });
}

void cuda::linear_grad(const Call& call) {
  const Slice &x = call.in[0], &weight = call.in[1];
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const int64_t rows = rows_of(x), in = weight.shape[0], out = weight.shape[1];
  const size_t sums = grad_workspace_of(call).sums;
  dispatch_compute(x.dtype, [&]<class T>() {
    auto* const workspace = static_cast<unsigned char*>(call.workspace);
    const T* dz = activation_grad<T>(call, call.attrs.as<LinearAttrs>().activation, rows, out, db,
                                     reinterpret_cast<double*>(workspace), reinterpret_cast<T*>(workspace + sums));
    if (dx) gemm<T>(call, {rows, in, out, false, true}, dz, weight.as<T>(), dx.beta, dx.as<T>());
    if (dw) gemm<T>(call, {in, out, rows, true, false}, x.as<T>(), dz, dw.beta, dw.as<T>());
  });
}

}  // namespace xent
