// cast:  y = x in another dtype      dx = dy in the input's dtype
//
// Values are rounded once, as core/convert.h says. Between floating dtypes, the 16-bit ones included, a cast is
// differentiable; a result of integers never has a gradient.
#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 15;  // elements per chunk

struct CastAttrs {
  DType dtype;
  bool operator==(const CastAttrs&) const = default;
};

Specs infer_cast(std::span<const Spec> in, const Attrs& attrs) { return {{in[0].shape, attrs.as<CastAttrs>().dtype}}; }

}  // namespace

namespace cpu {

void convert_elements(const Slice& from, const Slice& to) {
  dispatch(from.dtype, [&]<class From>() {
    dispatch(to.dtype, [&]<class To>() {
      parallel_for(to.shape.elements(), grain, [x = from.as<From>(), y = to.as<To>()](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y[i] = convert<To>(x[i]);
      });
    });
  });
}

void cast(const Call& call) { convert_elements(call.in[0], call.out[0]); }
void cast_grad(const Call& call) { convert_elements(call.grad_out[0], call.grad_in[0]); }

}  // namespace cpu

namespace {

// To f64 only: a difference quotient cannot see through the rounding to fewer bits.
Samples cast_samples(DType dtype) {
  return {{{normal_sample({3, 5}, dtype, 1)}, CastAttrs{DType::f64}},
          {{normal_sample({}, dtype, 2)}, CastAttrs{DType::f64}},
          {{normal_sample({grain + 7}, dtype, 3)}, CastAttrs{DType::f64}}};
}

}  // namespace

constinit const Op cast_op = {
    .name = "cast",
    .formula = "y = x in another dtype",
    .infer = infer_cast,
    .forward = {cpu::cast, ON_CUDA(cast)},
    .backward = {cpu::cast_grad, ON_CUDA(cast_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = cast_samples,
};

Tensor cast(const Tensor& x, DType dtype) { return apply(cast_op, {x}, CastAttrs{dtype})[0]; }

}  // namespace xent
