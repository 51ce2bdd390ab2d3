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

void matmul(const Call& call) {
  const auto [a_transposed, b_transposed] = call.attrs.as<MatmulAttrs>();
  const Slice& c = call.out[0];
  const int64_t k = call.in[0].shape[a_transposed ? 0 : 1];
  dispatch_compute(c.dtype, [&]<class T>() {
    gemm<T>({c.shape[0], c.shape[1], k, a_transposed, b_transposed}, call.in[0].as<T>(), call.in[1].as<T>(), 0,
            c.as<T>());
  });
}

void matmul_grad(const Call& call) {
  const auto [a_transposed, b_transposed] = call.attrs.as<MatmulAttrs>();
  const Slice& dc = call.grad_out[0];
  const Slice& da = call.grad_in[0];
  const Slice& db = call.grad_in[1];
  const int64_t m = dc.shape[0], n = dc.shape[1], k = call.in[0].shape[a_transposed ? 0 : 1];
  dispatch_compute(dc.dtype, [&]<class T>() {
    const T* a = call.in[0].as<T>();
    const T* b = call.in[1].as<T>();
    const T* g = dc.as<T>();
    if (da && !a_transposed) gemm<T>({m, k, n, false, !b_transposed}, g, b, da.beta, da.as<T>());
    if (da && a_transposed) gemm<T>({k, m, n, b_transposed, true}, b, g, da.beta, da.as<T>());
    if (db && !b_transposed) gemm<T>({k, n, m, !a_transposed, false}, a, g, db.beta, db.as<T>());
    if (db && b_transposed) gemm<T>({n, k, m, true, a_transposed}, g, a, db.beta, db.as<T>());
  });
}

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
