// matmul:  C = A B            A [m, k], B [k, n], C [m, n]
//          dA = dC B'         dB = A' dC
//
// A transposed operand is read as it lies: no copy is made. With transposed A, dA' is wanted instead: (dC B')' = B dC'.
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/cpu/gemm.h>
#include <xent/ops/matmul.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

Specs infer_matmul(std::span<const Spec> in, const Attrs& attrs) {
  const auto [a_transposed, b_transposed] = attrs.as<MatmulAttrs>();
  const Shape& a = in[0].shape;
  const Shape& b = in[1].shape;
  require<ShapeError>(a.rank() == 2 && b.rank() == 2, "matmul: {} and {} must be matrices; reshape them", a, b);
  const int64_t m = a[a_transposed ? 1 : 0], k = a[a_transposed ? 0 : 1];
  const int64_t n = b[b_transposed ? 0 : 1], k_of_b = b[b_transposed ? 1 : 0];
  require<ShapeError>(k == k_of_b, "matmul: {}{} times {}{}: the inner extents {} and {} must be equal", a,
                      a_transposed ? " transposed" : "", b, b_transposed ? " transposed" : "", k, k_of_b);
  require<DTypeError>(in[0].dtype == in[1].dtype && is_computable(in[0].dtype),
                      "matmul: {} times {}: both must be f32, or both f64; cast one", in[0].dtype, in[1].dtype);
  return {{Shape{m, n}, in[0].dtype}};
}

}  // namespace

namespace cpu {

namespace {

void multiply(const MatmulProduct& p) {
  dispatch_compute(p.c.dtype, [&]<class T>() { gemm<T>(p.shape, p.a.as<T>(), p.b.as<T>(), p.beta, p.c.as<T>()); });
}

}  // namespace

void matmul(const Call& call) { matmul_product(call, multiply); }
void matmul_grad(const Call& call) { matmul_grad_products(call, multiply); }

}  // namespace cpu

namespace {

Samples matmul_samples(DType dtype) {
  Samples samples;
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      samples.push_back({{normal_sample(transpose_a ? Shape{7, 5} : Shape{5, 7}, dtype, 1),
                          normal_sample(transpose_b ? Shape{3, 7} : Shape{7, 3}, dtype, 2)},
                         MatmulAttrs{transpose_a, transpose_b}});
  samples.push_back(
      {{normal_sample({70, 300}, dtype, 3), normal_sample({300, 150}, dtype, 4)}, MatmulAttrs{}});  // several blocks
  samples.push_back({{normal_sample({1, 1}, dtype, 5), normal_sample({1, 1}, dtype, 6)}, MatmulAttrs{}});
  return samples;
}

}  // namespace

constinit const Op matmul_op = {
    .name = "matmul",
    .formula = "c[i,j] = sum_k a[i,k] b[k,j]",
    .inputs = 2,
    .infer = infer_matmul,
    .forward = {cpu::matmul, ON_CUDA(matmul)},
    .backward = {cpu::matmul_grad, ON_CUDA(matmul_grad)},
    .needs_out = nothing,
    .accumulates = true,
    .samples = matmul_samples,
};

Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options) {
  return apply(matmul_op, {a, b}, MatmulAttrs{options.transpose_a, options.transpose_b})[0];
}

}  // namespace xent
