// matmul on the GPU:  C = op(A) op(B),  and the products for dA and dB (ops/matmul.h).
#include <xent/core/dispatch.h>
#include <xent/cuda/blas.h>
#include <xent/cuda/kernels.h>
#include <xent/ops/matmul.h>

namespace xent {

namespace {

auto multiply_on(const Call& call) {
  return [&call](const MatmulProduct& p) {
    dispatch_compute(p.c.dtype,
                     [&]<class T>() { cuda::gemm<T>(call, p.shape, p.a.as<T>(), p.b.as<T>(), p.beta, p.c.as<T>()); });
  };
}

}  // namespace

void cuda::matmul(const Call& call) { matmul_product(call, multiply_on(call)); }
void cuda::matmul_grad(const Call& call) { matmul_grad_products(call, multiply_on(call)); }

}  // namespace xent
