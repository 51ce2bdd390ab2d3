// linear:  z = x w + b,  y = f(z)       x [..., in], w [in, out], b [out], y [..., out]
//          dz = dy f'(z)                dx = dz w',  dw = x' dz,  db = sum of dz over the rows
//
// Bias and activation are applied to each block of the product while it is in the cache. f'(z) is told from y, so z is
// never stored. db is summed in f64, row after row.
#include <algorithm>
#include <array>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/gemm.h>
#include <xent/ops/linear.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

Specs infer_linear(std::span<const Spec> in, const Attrs& attrs) {
  const Spec &x = in[0], &weight = in[1], &bias = in[2];
  const Activation activation = attrs.as<LinearAttrs>().activation;
  require<ArgumentError>(activation >= Activation::none && activation <= Activation::sigmoid,
                         "linear: activation {} is none of none, relu, tanh, sigmoid", static_cast<int>(activation));
  require<ShapeError>(x.shape.rank() >= 1 && x.shape.rank() <= Shape::max_rank && weight.shape.rank() == 2,
                      "linear: input {} and weight {}: expected [..., in] and [in, out]", x.shape, weight.shape);
  const bool fits_flat = x.shape[0] > 0 && x.shape.elements() / x.shape[0] == weight.shape[0];
  require<ShapeError>(x.shape[-1] == weight.shape[0],
                      "linear: input {} does not fit weight {}: its last extent must be {}{}", x.shape, weight.shape,
                      weight.shape[0], fits_flat ? "; flatten it first" : "");
  require<ShapeError>(!bias || bias.shape == Shape{weight.shape[1]},
                      "linear: bias {} must be [{}], one per column of weight {}", bias.shape, weight.shape[1],
                      weight.shape);
  require<DTypeError>(is_computable(x.dtype) && weight.dtype == x.dtype && (!bias || bias.dtype == x.dtype),
                      "linear: input {}, weight {}, bias {}: all must be f32, or all f64; cast them", x.dtype,
                      weight.dtype, bias ? name(bias.dtype) : "absent");
  std::array<int64_t, Shape::max_rank> extents{};
  std::ranges::copy(x.shape, extents.begin());
  const auto rank = static_cast<size_t>(x.shape.rank());
  extents[rank - 1] = weight.shape[1];
  return {{Shape(std::span<const int64_t>(extents.data(), rank)), x.dtype}};
}

int64_t rows_of(const Slice& x) { return x.shape.product(0, x.shape.rank() - 1); }

// dz has a place of its own unless it is dy itself.
size_t linear_grad_workspace(const Call& call) {
  if (call.attrs.as<LinearAttrs>().activation == Activation::none) return 0;
  return static_cast<size_t>(call.out[0].shape.elements()) * size_of(call.out[0].dtype);
}

}  // namespace

namespace cpu {

void linear(const Call& call) {
  const Slice &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  dispatch_compute(y.dtype, [&]<class T>() {
    gemm<T>({rows_of(x), weight.shape[1], weight.shape[0]}, x.as<T>(), weight.as<T>(), 0, y.as<T>(),
            {bias.as<T>(), call.attrs.as<LinearAttrs>().activation});
  });
}

template <class T>
void sum_rows(const T* z, int64_t rows, int64_t columns, float beta, T* sums) {
  constexpr int64_t group = 64;  // columns summed side by side
  parallel_for((columns + group - 1) / group, std::max<int64_t>(1, (1 << 15) / (group * std::max<int64_t>(rows, 1))),
               [&](int64_t begin, int64_t end) {
                 for (int64_t first = begin * group; first < std::min(end * group, columns); first += group) {
                   const int64_t width = std::min(group, columns - first);
                   std::array<double, group> total{};
                   for (int64_t r = 0; r < rows; ++r)
                     for (int64_t i = 0; i < width; ++i) total[static_cast<size_t>(i)] += z[r * columns + first + i];
                   for (int64_t i = 0; i < width; ++i)
                     sums[first + i] =
                         static_cast<T>(total[static_cast<size_t>(i)] + (beta == 0 ? 0 : sums[first + i]));
                 }
               });
}

void linear_grad(const Call& call) {
  const Slice &x = call.in[0], &weight = call.in[1];
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const Activation activation = call.attrs.as<LinearAttrs>().activation;
  const int64_t rows = rows_of(x), in = weight.shape[0], out = weight.shape[1];
  dispatch_compute(x.dtype, [&]<class T>() {
    const T* dz = activation_grad(activation, call.out[0].as<T>(), call.grad_out[0].as<T>(),
                                  static_cast<T*>(call.workspace), rows * out);
    if (dx) gemm<T>({rows, in, out, false, true}, dz, weight.as<T>(), dx.beta, dx.as<T>());
    if (dw) gemm<T>({in, out, rows, true, false}, x.as<T>(), dz, dw.beta, dw.as<T>());
    if (db) sum_rows(dz, rows, out, db.beta, db.as<T>());
  });
}

}  // namespace cpu

namespace {

Samples linear_samples(DType dtype) {
  Samples samples;
  for (const Activation activation : {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid})
    samples.push_back({{normal_sample({5, 7}, dtype, 1), normal_sample({7, 3}, dtype, 2), normal_sample({3}, dtype, 3)},
                       LinearAttrs{activation}});
  samples.push_back(
      {{normal_sample({2, 3, 7}, dtype, 4), normal_sample({7, 5}, dtype, 5), {}}, LinearAttrs{Activation::tanh}});
  samples.push_back(
      {{normal_sample({70, 130}, dtype, 6), normal_sample({130, 150}, dtype, 7), normal_sample({150}, dtype, 8)},
       LinearAttrs{Activation::sigmoid}});  // several blocks
  return samples;
}

}  // namespace

constinit const Op linear_op = {
    .name = "linear",
    .formula = "y = f(x w + b), f one of none, relu, tanh, sigmoid",
    .inputs = 3,
    .infer = infer_linear,
    .forward = {cpu::linear, ON_CUDA(linear)},
    .backward = {cpu::linear_grad, ON_CUDA(linear_grad), linear_grad_workspace, ON_CUDA(linear_grad_workspace)},
    .optional = 0b100,
    .needs_in = 0b011,
    .accumulates = true,
    .samples = linear_samples,
};

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation) {
  return apply(linear_op, {x, weight, bias}, LinearAttrs{activation})[0];
}

}  // namespace xent
