// matmul on the GPU:  C = op(A) op(B),  and the same products for dA and dB as on the CPU (ops/matmul.cpp).
#include <xent/core/dispatch.h>
#include <xent/cuda/blas.h>
#include <xent/cuda/kernels.h>
#include <xent/ops/matmul.h>

namespace xent {

void cuda::matmul(const Call& call) {
  const auto [a_transposed, b_transposed] = call.attrs.as<MatmulAttrs>();
  const Slice& c = call.out[0];
  const int64_t k = call.in[0].shape[a_transposed ? 0 : 1];
  dispatch_compute(c.dtype, [&]<class T>() {
    gemm<T>(call, {c.shape[0], c.shape[1], k, a_transposed, b_transposed}, call.in[0].as<T>(), call.in[1].as<T>(), 0,
            c.as<T>());
  });
}

void cuda::matmul_grad(const Call& call) {
  const auto [a_transposed, b_transposed] = call.attrs.as<MatmulAttrs>();
  const Slice& dc = call.grad_out[0];
  const Slice& da = call.grad_in[0];
  const Slice& db = call.grad_in[1];
  const int64_t m = dc.shape[0], n = dc.shape[1], k = call.in[0].shape[a_transposed ? 0 : 1];
  dispatch_compute(dc.dtype, [&]<class T>() {
    const T* a = call.in[0].as<T>();
    const T* b = call.in[1].as<T>();
    const T* g = dc.as<T>();
    if (da && !a_transposed) gemm<T>(call, {m, k, n, false, !b_transposed}, g, b, da.beta, da.as<T>());
    if (da && a_transposed) gemm<T>(call, {k, m, n, b_transposed, true}, b, g, da.beta, da.as<T>());
    if (db && !b_transposed) gemm<T>(call, {k, n, m, !a_transposed, false}, a, g, db.beta, db.as<T>());
    if (db && b_transposed) gemm<T>(call, {n, k, m, true, a_transposed}, g, a, db.beta, db.as<T>());
  });
}

}  // namespace xent
