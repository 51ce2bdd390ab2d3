// conv2d:  z[n, i, j, o] = b[o] + sum over k, l, c of x[n, i s - p + k d, j s - p + l d, c] w[k, l, c, o],  y = f(z)
//          dz = dy f'(z)
//          dx = each dz[n, i, j, o] w[k, l, c, o] added where x was read
//          dw = x' dz over all pixels,  db = sum of dz over all pixels
//
// s, p, d: stride, padding, dilation; x outside the image is 0. The sums are products of matrices: of transformed tiles
// where that takes fewer multiplications (cpu/winograd.h), of the images where they are (cpu/direct_convolution.h), or
// of gathered patches (cpu/convolution.h). Bias and activation are applied while a block is in the cache, and f'(z) is
// told from y, so z is never stored.
#include <algorithm>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/conv2d.h>
#include <xent/ops/cpu/activation.h>
#include <xent/ops/cpu/axis_sum.h>
#include <xent/ops/cpu/convolution.h>
#include <xent/ops/cpu/direct_convolution.h>
#include <xent/ops/cpu/winograd.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>
#include <xent/ops/windows.h>

namespace xent {

Specs infer_convolution(const char* op, std::span<const Spec> in, const Attrs& attrs) {
  const Spec &x = in[0], &weight = in[1], &bias = in[2];
  const Conv2dOptions& options = attrs.as<Conv2dAttrs>().options;
  require<ArgumentError>(options.activation >= Activation::none && options.activation <= Activation::sigmoid,
                         "{}: activation {} is none of none, relu, tanh, sigmoid", op,
                         static_cast<int>(options.activation));
  require<ShapeError>(x.shape.rank() == 4 && weight.shape.rank() == 4,
                      "{}: input {} and weight {}: expected [batch, height, width, in] and [kernel height, kernel "
                      "width, in, out]",
                      op, x.shape, weight.shape);
  require<ShapeError>(x.shape[3] == weight.shape[2] && x.shape[3] >= 1,
                      "{}: input {} does not fit weight {}: its last extent must be {}{}", op, x.shape, weight.shape,
                      weight.shape[2],
                      weight.shape[2] < 1             ? ", and at least 1"
                      : x.shape[1] == weight.shape[2] ? "; channels come last: permute(x, {0, 2, 3, 1})"
                                                      : "");
  require<ShapeError>(!bias || bias.shape == Shape{weight.shape[3]},
                      "{}: bias {} must be [{}], one per output channel of weight {}", op, bias.shape, weight.shape[3],
                      weight.shape);
  require<DTypeError>(is_computable(x.dtype) && weight.dtype == x.dtype && (!bias || bias.dtype == x.dtype),
                      "{}: input {}, weight {}, bias {}: all must be f32, or all f64; cast them", op, x.dtype,
                      weight.dtype, bias ? name(bias.dtype) : "absent");
  const auto steps = [&](int axis, int64_t stride, int64_t padding, int64_t dilation) {
    return window_steps(op, x.shape, axis, weight.shape[axis - 1], stride, padding, dilation);
  };
  const int64_t height = steps(1, options.stride.height, options.padding.height, options.dilation.height);
  const int64_t width = steps(2, options.stride.width, options.padding.width, options.dilation.width);
  return {{windows_shape(op, x.shape, height, width, weight.shape[3]), x.dtype}};
}

namespace {

Specs infer_conv2d(std::span<const Spec> in, const Attrs& attrs) { return infer_convolution("conv2d", in, attrs); }

cpu::Convolution convolution_of(const Call& call) {
  return {call.in[0].shape, call.in[1].shape, call.out[0].shape, call.attrs.as<Conv2dAttrs>().options};
}

bool by_tiles(const Call& call) {
  return call.out[0].dtype == DType::f32 && cpu::Winograd::serves(convolution_of(call));
}

}  // namespace

size_t conv2d_workspace(const Call& call) {
  if (call.out[0].shape.elements() == 0) return 0;
  const cpu::Convolution c = convolution_of(call);
  return dispatch_compute(call.out[0].dtype, [&]<class T>() {
    using Direct = cpu::DirectConvolution<T>;
    const int64_t scratch = by_tiles(call)      ? cpu::Winograd(c).forward_scratch()
                            : Direct::serves(c) ? Direct(c).forward_scratch()
                                                : c.scratch(c.forward_parts());
    return static_cast<size_t>(scratch) * sizeof(T);
  });
}

namespace {

// The workspace of backward, in elements: of whatever is left to patches, and of the direct way.
template <class T>
struct GradWorkspace {
  bool direct, direct_images;
  int64_t dz, transposed, partials, patches, scratch;
  size_t sums;  // bytes, of the bias gradient; first, as f64

  explicit GradWorkspace(const Call& call) {
    const cpu::Convolution c = convolution_of(call);
    using Direct = cpu::DirectConvolution<T>;
    direct = Direct::serves(c);
    direct_images = Direct::serves_images(c);
    const bool activated = call.attrs.as<Conv2dAttrs>().options.activation != Activation::none;
    dz = activated && !direct_images ? call.out[0].shape.elements() : 0;  // unless it is dy itself
    transposed = direct_images ? 0 : c.depth() * c.out;
    partials = direct ? 0 : c.weight_parts() * c.depth() * c.out;
    patches = direct_images ? 0 : c.scratch(cpu::Convolution::most_parts);
    scratch = direct ? std::max(Direct(c).backward_scratch(false), Direct(c).backward_scratch(direct_images)) : 0;
    sums = direct ? 0 : cpu::AxisSum({c.pixels(), c.out}, 0b01).workspace();
  }
  size_t bytes() const {
    return sums + static_cast<size_t>(scratch + dz + transposed + partials + patches) * sizeof(T);
  }
};

}  // namespace

size_t conv2d_grad_workspace(const Call& call) {
  if (call.out[0].shape.elements() == 0) return 0;
  if (by_tiles(call))
    return static_cast<size_t>(cpu::Winograd(convolution_of(call)).backward_scratch()) * sizeof(float);
  return dispatch_compute(call.out[0].dtype, [&]<class T>() { return GradWorkspace<T>(call).bytes(); });
}

namespace cpu {

void conv2d(const Call& call) {
  const Slice &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  if (y.shape.elements() == 0) return;
  const Activation activation = call.attrs.as<Conv2dAttrs>().options.activation;
  if (by_tiles(call))
    return Winograd(convolution_of(call))
        .forward(x.as<float>(), weight.as<float>(), {bias.as<float>(), activation}, {y.as<float>()},
                 static_cast<float*>(call.workspace));
  dispatch_compute(y.dtype, [&]<class T>() {
    const Convolution c = convolution_of(call);
    const Epilogue<T> epilogue{bias.as<T>(), activation};
    T* scratch = static_cast<T*>(call.workspace);
    if (DirectConvolution<T>::serves(c))
      DirectConvolution<T>(c).forward(x.as<T>(), weight.as<T>(), epilogue, y.as<T>(), scratch);
    else convolve<T>(c, x.as<T>(), weight.as<T>(), epilogue, y.as<T>(), scratch);
  });
}

// to = beta to + the sum of the partials, in order.
template <class T>
void add_partials(const T* partials, int64_t parts, int64_t elements, const Slice& slice) {
  T* to = slice.as<T>();
  parallel_for(elements, 1 << 14, [&](int64_t begin, int64_t end) {
    if (slice.beta == 0) std::fill(to + begin, to + end, T(0));
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t i = begin; i < end; ++i) to[i] += partials[part * elements + i];
  });
}

template <class T>
void conv2d_grad_of(const Call& call) {
  const Slice &x = call.in[0], &weight = call.in[1];
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const Activation activation = call.attrs.as<Conv2dAttrs>().options.activation;
  const T *y = call.out[0].as<T>(), *dy = call.grad_out[0].as<T>();
  const Convolution c = convolution_of(call);
  const GradWorkspace<T> sizes(call);
  T* scratch = reinterpret_cast<T*>(static_cast<std::byte*>(call.workspace) + sizes.sums);
  T* dz_place = scratch + sizes.scratch;
  T* transposed = dz_place + sizes.dz;
  T* partials = transposed + sizes.transposed;
  T* patches = partials + sizes.partials;

  using Direct = DirectConvolution<T>;
  const auto direct = [&](const Slice& images, const typename Direct::Result& result) {
    Direct(c).backward(x.as<T>(), weight.as<T>(), result, {images.as<T>(), images.beta}, {dw.as<T>(), dw.beta},
                       {db.as<T>(), db.beta}, scratch);
  };
  if (sizes.direct && (sizes.direct_images || !dx)) return direct(dx, {y, dy, activation});

  const T* dz = activation_grad(activation, y, dy, dz_place, c.pixels() * c.out);
  if (dx) {
    const int64_t depth = c.depth();
    for (int64_t i = 0; i < depth; ++i)
      for (int64_t o = 0; o < c.out; ++o) transposed[o * depth + i] = weight.as<T>()[i * c.out + o];
    convolve_grad_images<T>(c, dz, transposed, dx.beta, dx.as<T>(), patches);
  }
  if (!dw && !db) return;
  if (sizes.direct) return direct({}, {nullptr, dz, Activation::none});
  if (dw) {
    convolve_grad_weight<T>(c, x.as<T>(), dz, partials, patches);
    add_partials(partials, c.weight_parts(), c.depth() * c.out, dw);
  }
  if (db)
    AxisSum({c.pixels(), c.out}, 0b01)
        .run<T>([&](int64_t at, int64_t, T*) { return dz + at; },
                [&](int64_t o, double total) {
                  db.as<T>()[o] = static_cast<T>(total + (db.beta == 0 ? 0 : static_cast<double>(db.as<T>()[o])));
                },
                call.workspace);
}

void conv2d_grad_by_tiles(const Call& call) {
  const auto gradient = [&](size_t i) { return Winograd::Gradient{call.grad_in[i].as<float>(), call.grad_in[i].beta}; };
  Winograd(convolution_of(call))
      .backward(
          call.in[0].as<float>(), call.in[1].as<float>(),
          {call.out[0].as<float>(), call.grad_out[0].as<float>(), call.attrs.as<Conv2dAttrs>().options.activation},
          gradient(0), gradient(1), gradient(2), static_cast<float*>(call.workspace));
}

void conv2d_grad(const Call& call) {
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    if (call.out[0].shape.elements() > 0 && by_tiles(call)) return conv2d_grad_by_tiles(call);
    if (call.out[0].shape.elements() > 0) return conv2d_grad_of<T>(call);
    for (const Slice& gradient : call.grad_in)  // of nothing
      if (gradient && gradient.beta == 0) std::fill_n(gradient.as<T>(), gradient.shape.elements(), T(0));
  });
}

}  // namespace cpu

namespace {

Samples conv2d_samples(DType dtype) {
  const auto sample = [&](const Shape& x, const Shape& weight, const Conv2dOptions& options, bool bias = true) {
    const Tensor b = bias ? normal_sample({weight[3]}, dtype, 3) : Tensor();
    return Sample{{normal_sample(x, dtype, 1), normal_sample(weight, dtype, 2), b}, Conv2dAttrs{options}};
  };
  return {sample({2, 5, 7, 3}, {3, 3, 3, 5}, {}),
          sample({1, 6, 5, 2}, {3, 2, 2, 3}, {.stride = {2, 1}, .padding = {1, 0}, .activation = Activation::tanh}),
          sample({3, 7, 8, 1}, {2, 3, 1, 4}, {.padding = {1, 2}, .dilation = {3, 2}}, false),
          sample({2, 4, 5, 3}, {1, 1, 3, 7}, {.activation = Activation::sigmoid}),
          sample({2, 3, 3, 2}, {3, 3, 2, 2}, {.stride = 3, .padding = 3, .dilation = 2}),
          sample({20, 14, 13, 4}, {3, 3, 4, 6}, {.padding = 1})};  // several blocks of patches
}

}  // namespace

constinit const Op conv2d_op = {
    .name = "conv2d",
    .formula = "y = f(x * w + b), * slides w over the images; f as for linear",
    .inputs = 3,
    .infer = infer_conv2d,
    .forward = {cpu::conv2d, ON_CUDA(conv2d), conv2d_workspace, ON_CUDA(conv2d_workspace)},
    .backward = {cpu::conv2d_grad, ON_CUDA(conv2d_grad), conv2d_grad_workspace, ON_CUDA(conv2d_grad_workspace)},
    .optional = 0b100,
    .needs_in = 0b011,
    .accumulates = true,
    .samples = conv2d_samples,
};

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  return apply(conv2d_op, {x, weight, bias}, Conv2dAttrs{options})[0];
}

}  // namespace xent
