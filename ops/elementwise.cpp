// relu, tanh, sigmoid, gelu, exp, log, sqrt, scale, shift:  y_i = f(x_i)      dx_i = dy_i f'(x_i)
//
// The functions themselves are in elementwise.h, and in vector registers for f32 in cpu/vector_math.h. Where f' can be
// told from the output, the input's bytes are dropped.
#include <type_traits>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/vector_math.h>
#include <xent/ops/elementwise.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

using cpu::VectorMath;
using scalar::Reads;

namespace {

constexpr int64_t grain = 1 << 15;  // elements per chunk

template <class F>
Specs like_input(std::span<const Spec> in, const Attrs&) {
  require_computable(F::name, in[0]);
  return {in[0]};
}

}  // namespace

namespace cpu {

// The member of vector_math() that has a function's loops over f32 in vector registers; null where there are none.
using InVectors = VectorFunction VectorMath::*;

template <class F, InVectors in_vectors>
void map(const Call& call) {
  dispatch_compute(call.out[0].dtype, [&]<class T>() {
    const F f = function_of<F>(call.attrs);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.out[0].shape.elements(), grain, [=](int64_t begin, int64_t end) {
      if constexpr (in_vectors != nullptr && std::is_same_v<T, float>)
        (vector_math().*in_vectors).f(x + begin, y + begin, end - begin);
      else
        for (int64_t i = begin; i < end; ++i) y[i] = f.f(x[i]);
    });
  });
}

template <class F, InVectors in_vectors>
void map_grad(const Call& call) {
  dispatch_compute(call.grad_in[0].dtype, [&]<class T>() {
    const F f = function_of<F>(call.attrs);
    const T* v = read_by_df<F>(call).template as<T>();
    const T* dy = call.grad_out[0].as<T>();
    T* dx = call.grad_in[0].as<T>();
    parallel_for(call.grad_in[0].shape.elements(), grain, [=](int64_t begin, int64_t end) {
      if constexpr (in_vectors != nullptr && std::is_same_v<T, float>)
        (vector_math().*in_vectors).df(v + begin, dy + begin, dx + begin, end - begin);
      else
        for (int64_t i = begin; i < end; ++i) dx[i] = dy[i] * f.df(v[i]);
    });
  });
}

}  // namespace cpu

namespace {

// Shapes of odd sizes; the last one takes two chunks.
template <auto sample>
Samples samples_with(const Attrs& attrs, DType dtype) {
  return {{{sample({3, 5}, dtype, 1)}, attrs},
          {{sample({}, dtype, 2)}, attrs},
          {{sample({2, 1, 7, 3}, dtype, 3)}, attrs},
          {{sample({grain + 233}, dtype, 4)}, attrs}};
}

template <auto sample>
Samples samples(DType dtype) {
  return samples_with<sample>({}, dtype);
}

Samples scale_samples(DType dtype) { return samples_with<normal_sample>(scalar::Scale{-2.5}, dtype); }
Samples shift_samples(DType dtype) { return samples_with<normal_sample>(scalar::Shift{0.75}, dtype); }

template <class F, cpu::InVectors in_vectors = nullptr>
constexpr Op elementwise(const char* formula, Samples (*samples)(DType)) {
  return {
      .name = F::name,
      .formula = formula,
      .infer = like_input<F>,
      .forward = {cpu::map<F, in_vectors>, ON_CUDA(map<F>)},
      .backward = {cpu::map_grad<F, in_vectors>, ON_CUDA(map_grad<F>)},
      .needs_in = F::reads == Reads::input ? everything : nothing,
      .needs_out = F::reads == Reads::output ? everything : nothing,
      .samples = samples,
  };
}

}  // namespace

constinit const Op relu_op = elementwise<scalar::Relu, &VectorMath::relu>("y = max(x, 0)", samples<nonzero_sample>);
constinit const Op tanh_op = elementwise<scalar::Tanh, &VectorMath::tanh>("y = tanh(x)", samples<normal_sample>);
constinit const Op sigmoid_op =
    elementwise<scalar::Sigmoid, &VectorMath::sigmoid>("y = 1 / (1 + exp(-x))", samples<normal_sample>);
constinit const Op gelu_op =
    elementwise<scalar::Gelu, &VectorMath::gelu>("y = x/2 (1 + erf(x / sqrt(2)))", samples<normal_sample>);
constinit const Op exp_op = elementwise<scalar::Exp, &VectorMath::exp>("y = exp(x)", samples<normal_sample>);
constinit const Op log_op = elementwise<scalar::Log, &VectorMath::log>("y = log(x)", samples<positive_sample>);
constinit const Op sqrt_op = elementwise<scalar::Sqrt>("y = sqrt(x)", samples<positive_sample>);
constinit const Op scale_op = elementwise<scalar::Scale>("y = factor x", scale_samples);
constinit const Op shift_op = elementwise<scalar::Shift>("y = x + term", shift_samples);

Tensor relu(const Tensor& x) { return apply(relu_op, {x})[0]; }
Tensor tanh(const Tensor& x) { return apply(tanh_op, {x})[0]; }
Tensor sigmoid(const Tensor& x) { return apply(sigmoid_op, {x})[0]; }
Tensor gelu(const Tensor& x) { return apply(gelu_op, {x})[0]; }
Tensor exp(const Tensor& x) { return apply(exp_op, {x})[0]; }
Tensor log(const Tensor& x) { return apply(log_op, {x})[0]; }
Tensor sqrt(const Tensor& x) { return apply(sqrt_op, {x})[0]; }
Tensor scale(const Tensor& x, double factor) { return apply(scale_op, {x}, scalar::Scale{factor})[0]; }
Tensor shift(const Tensor& x, double term) { return apply(shift_op, {x}, scalar::Shift{term})[0]; }

}  // namespace xent
