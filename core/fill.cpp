// fill:        x = value
// copy:        y = x            dx = dy
// accumulate:  x += y
//
// put_back:    x = y if an error was found
//
// The engine's own ops: constants, copies, the sum of two gradients that arrive at one tensor, and a state as it was
// before a bad label.
#include <xent/core/fill.h>

#include <algorithm>
#include <cstring>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 16;  // elements per chunk

}  // namespace

namespace cpu {

void fill(const Call& call) {
  const Slice& x = call.out[0];
  dispatch(x.dtype, [&]<class T>() {
    const T value = convert<T>(call.attrs.as<FillAttrs>().value);
    parallel_for(x.shape.elements(), grain,
                 [&](int64_t begin, int64_t end) { std::fill(x.as<T>() + begin, x.as<T>() + end, value); });
  });
}

void copy_bytes(const Slice& to, const Slice& from) {
  const auto size = static_cast<int64_t>(size_of(to.dtype));
  parallel_for(to.shape.elements(), grain, [&](int64_t begin, int64_t end) {
    std::memcpy(to.as<std::byte>() + begin * size, from.as<std::byte>() + begin * size,
                static_cast<size_t>((end - begin) * size));
  });
}

void add_to(const Slice& to, const Slice& from) {
  require<DTypeError>(is_floating(to.dtype), "accumulate: a tensor of {} has no gradient to add to", to.dtype);
  dispatch(to.dtype, [&]<class T>() {
    parallel_for(to.shape.elements(), grain, [x = to.as<T>(), y = from.as<T>()](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if constexpr (std::is_class_v<T>) x[i] = T(static_cast<float>(x[i]) + static_cast<float>(y[i]));  // 16 bits
        else x[i] = static_cast<T>(x[i] + y[i]);
      }
    });
  });
}

void copy(const Call& call) { copy_bytes(call.out[0], call.in[0]); }

void copy_grad(const Call& call) {
  const Slice& dx = call.grad_in[0];
  if (dx.beta == 0) copy_bytes(dx, call.grad_out[0]);
  else add_to(dx, call.grad_out[0]);
}

void accumulate(const Call& call) { add_to(call.in[0], call.in[1]); }

}  // namespace cpu

namespace {

Specs infer_copy(std::span<const Spec> in, const Attrs&) { return {in[0]}; }
Specs infer_fill(std::span<const Spec>, const Attrs&) { fail<ArgumentError>("fill: use Tensor::full, or fill()"); }

Specs infer_accumulate(std::span<const Spec> in, const Attrs&) {
  require<ShapeError>(in[0].shape == in[1].shape && in[0].dtype == in[1].dtype, "accumulate: {} {} onto {} {}",
                      in[1].dtype, in[1].shape, in[0].dtype, in[0].shape);
  return {};
}

Samples copy_samples(DType dtype) { return {{{Tensor::full({3, 5}, 0.5, dtype)}, {}}}; }

}  // namespace

constinit const Op fill_op = {
    .name = "fill",
    .formula = "x = value",
    .inputs = 0,
    .infer = infer_fill,
    .forward = {cpu::fill, ON_CUDA(fill)},
};

constinit const Op copy_op = {
    .name = "copy",
    .formula = "y = x",
    .infer = infer_copy,
    .forward = {cpu::copy, ON_CUDA(copy)},
    .backward = {cpu::copy_grad, ON_CUDA(copy_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .accumulates = true,
    .samples = copy_samples,
};

constinit const Op accumulate_op = {
    .name = "accumulate",
    .formula = "x += y",
    .inputs = 2,
    .infer = infer_accumulate,
    .forward = {cpu::accumulate, ON_CUDA(accumulate)},
    .updates = 0b1,
};

constinit const Op put_back_op = {
    .name = "put_back",
    .formula = "x = y after an error",
    .inputs = 2,
    .infer = infer_accumulate,
    .forward = {nullptr, ON_CUDA(put_back)},
    .updates = 0b1,
};

void launch_fill(const Tensor& x, double value) {
  note_use(x);
  const Slice out = slice_of(x);
  launch(fill_op, fill_op.forward, {.in = {}, .out = {&out, 1}, .attrs = FillAttrs{value}}, x.device());
}

void launch_copy(const Tensor& to, const Tensor& from) {
  note_use(to);
  note_use(from);
  const Slice in = slice_of(from), out = slice_of(to);
  launch(copy_op, copy_op.forward, {.in = {&in, 1}, .out = {&out, 1}}, to.device());
}

void launch_accumulate(const Tensor& to, const Tensor& from) {
  note_use(to);
  note_use(from);
  const Slice in[] = {slice_of(to), slice_of(from)};
  launch(accumulate_op, accumulate_op.forward, {.in = in, .out = {}}, to.device());
}

void launch_put_back(const Tensor& state, const Tensor& copy) {
  note_use(state);
  note_use(copy);
  const Slice in[] = {slice_of(state), slice_of(copy)};
  launch(put_back_op, put_back_op.forward, {.in = in, .out = {}}, state.device());
}

}  // namespace xent
