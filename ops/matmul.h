// What matmul is called with, and the products that it and its gradients come to, for the kernels of every device.
// Private.
#pragma once

#include <xent/core/op.h>
#include <xent/ops/gemm_shape.h>

namespace xent {

struct MatmulAttrs {
  bool transpose_a;
  bool transpose_b;
  bool operator==(const MatmulAttrs&) const = default;
};

// c = op(a) op(b) + beta c.
struct MatmulProduct {
  GemmShape shape;
  const Slice &a, &b, &c;
  float beta;
};

template <class Multiply>
void matmul_product(const Call& call, const Multiply& multiply) {
  const auto [a_transposed, b_transposed] = call.attrs.as<MatmulAttrs>();
  const Slice &a = call.in[0], &b = call.in[1], &c = call.out[0];
  const int64_t k = a.shape[a_transposed ? 0 : 1];
  multiply(MatmulProduct{{c.shape[0], c.shape[1], k, a_transposed, b_transposed}, a, b, c, 0});
}

template <class Multiply>
void matmul_grad_products(const Call& call, const Multiply& multiply) {
  const auto [a_transposed, b_transposed] = call.attrs.as<MatmulAttrs>();
  const Slice &a = call.in[0], &b = call.in[1], &dc = call.grad_out[0];
  const Slice &da = call.grad_in[0], &db = call.grad_in[1];
  const int64_t m = dc.shape[0], n = dc.shape[1], k = a.shape[a_transposed ? 0 : 1];
  if (da && !a_transposed) multiply(MatmulProduct{{m, k, n, false, !b_transposed}, dc, b, da, da.beta});
  if (da && a_transposed) multiply(MatmulProduct{{k, m, n, b_transposed, true}, b, dc, da, da.beta});
  if (db && !b_transposed) multiply(MatmulProduct{{k, n, m, !a_transposed, false}, a, dc, db, db.beta});
  if (db && b_transposed) multiply(MatmulProduct{{n, k, m, true, a_transposed}, dc, a, db, db.beta});
}

}  // namespace xent
