// conv2d_max_pool2d:  y = the largest of each 2 x 2 of f(x * w + b), of conv2d
//                     dz = dy f'(y) at the place of the largest, 0 elsewhere;  dx, dw, db as for conv2d
//
// The same bits as max_pool2d(conv2d(...)) gives, but that a NaN which is not the largest brings no gradient, where two
// ops make 0 f'(NaN) of it for tanh and sigmoid. By tiles (cpu/winograd.h) the largest is taken as a tile leaves the
// registers, and the images that conv2d would write and max_pool2d read are never there, in either direction. Where
// tiles do not serve, they are in the workspace.
#include <algorithm>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/conv2d.h>
#include <xent/ops/cpu/winograd.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr const char* op_name = "conv2d_max_pool2d";

// The second output is which of its four each largest element is, row by row.
Specs infer_conv2d_max_pool2d(std::span<const Spec> in, const Attrs& attrs) {
  const Spec images = infer_convolution(op_name, in, attrs)[0];
  const Shape& shape = images.shape;
  require<ShapeError>(shape[1] >= 2 && shape[2] >= 2, "{}: images {} become {}: too small for windows of 2 x 2",
                      op_name, in[0].shape, shape);
  const Shape pooled{shape[0], shape[1] / 2, shape[2] / 2, shape[3]};
  return {{pooled, images.dtype}, {pooled, DType::u8}};
}

// What conv2d is called with: its result, and the gradient of that, are in the workspace and not in the call.
struct Inner {
  Spec images;
  size_t bytes;  // of them
  Slice y, dy;
  Call call;

  explicit Inner(const Call& outer)
      : images(infer_convolution(op_name, std::array{spec(outer.in[0]), spec(outer.in[1]), spec(outer.in[2])},
                                 outer.attrs)[0]),
        bytes((static_cast<size_t>(images.shape.elements()) * size_of(images.dtype) + 63) / 64 * 64),
        y{outer.workspace, images.shape, images.dtype},
        dy{nullptr, images.shape, images.dtype},
        call(outer) {
    call.out = {&y, 1};
  }
  Inner(const Inner&) = delete;
  Inner& operator=(const Inner&) = delete;

  // The workspace is y, dy if there is one, and conv2d's own.
  void split(bool backward) {
    auto* at = static_cast<std::byte*>(call.workspace) + bytes;
    if (backward) {
      dy.data = at;
      call.grad_out = {&dy, 1};
      at += bytes;
    }
    call.workspace = at;
  }

  cpu::Convolution convolution() const {
    return {call.in[0].shape, call.in[1].shape, images.shape, call.attrs.as<Conv2dAttrs>().options};
  }
  bool by_tiles() const {
    const Activation f = call.attrs.as<Conv2dAttrs>().options.activation;
    return images.dtype == DType::f32 && (f == Activation::none || f == Activation::relu) &&
           cpu::Winograd::serves(convolution());
  }

 private:
  static Spec spec(const Slice& slice) { return {slice.shape, slice.dtype, slice.shape.rank() > 0}; }
};

size_t workspace(const Call& call) {
  if (call.out[0].shape.elements() == 0) return 0;
  const Inner inner(call);
  if (inner.by_tiles())
    return static_cast<size_t>(cpu::Winograd(inner.convolution()).forward_scratch()) * sizeof(float);
  return inner.bytes + conv2d_workspace(inner.call);
}

size_t grad_workspace(const Call& call) {
  if (call.out[0].shape.elements() == 0) return 0;
  const Inner inner(call);
  if (inner.by_tiles())
    return static_cast<size_t>(cpu::Winograd(inner.convolution()).backward_scratch()) * sizeof(float);
  return 2 * inner.bytes + conv2d_grad_workspace(inner.call);
}

}  // namespace

namespace cpu {

// Calls body(of the first pixel of a window, of its result) for the elements of each, a row of windows at a time.
template <class Body>
void each_window(const Shape& images, const Shape& pooled, const Body& body) {
  const int64_t channels = images[3], line = images[2] * channels;
  parallel_for(pooled[0] * pooled[1], 8, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t from = (row / pooled[1] * images[1] + row % pooled[1] * 2) * line;
      for (int64_t j = 0; j < pooled[2]; ++j)
        for (int64_t c = 0; c < channels; ++c) body(from + 2 * j * channels + c, (row * pooled[2] + j) * channels + c);
    }
  });
}

// Where the four of a window are, from the first.
struct Four {
  int64_t at[4];
  explicit Four(const Shape& images) : at{0, images[3], images[2] * images[3], (images[2] + 1) * images[3]} {}
};

void conv2d_max_pool2d(const Call& call) {
  const Slice &y = call.out[0], &place = call.out[1];
  if (y.shape.elements() == 0) return;
  Inner inner(call);
  if (inner.by_tiles()) {
    const Activation activation = call.attrs.as<Conv2dAttrs>().options.activation;
    Winograd(inner.convolution())
        .forward(call.in[0].as<float>(), call.in[1].as<float>(), {call.in[2].as<float>(), activation},
                 {y.as<float>(), place.as<uint8_t>()}, static_cast<float*>(call.workspace));
    return;
  }
  inner.split(false);
  conv2d(inner.call);
  dispatch_compute(y.dtype, [&]<class T>() {
    const Four four(inner.images.shape);
    each_window(inner.images.shape, y.shape, [&](int64_t from, int64_t to) {
      const T* z = inner.y.as<T>() + from;
      T largest = z[0];
      uint8_t which = 0;
      for (uint8_t k = 1; k < 4; ++k) {
        const T other = z[four.at[k]];
        if (!(other <= largest) && largest == largest) {  // as in max_pool2d: a NaN is larger than all
          largest = other;
          which = k;
        }
      }
      y.as<T>()[to] = largest;
      place.as<uint8_t>()[to] = which;
    });
  });
}

void conv2d_max_pool2d_grad(const Call& call) {
  const Slice &y = call.out[0], &dy = call.grad_out[0];
  const uint8_t* place = call.out[1].as<uint8_t>();
  Inner inner(call);
  if (y.shape.elements() > 0 && inner.by_tiles()) {
    const auto gradient = [&](size_t i) {
      return Winograd::Gradient{call.grad_in[i].as<float>(), call.grad_in[i].beta};
    };
    Winograd(inner.convolution())
        .backward(call.in[0].as<float>(), call.in[1].as<float>(),
                  {y.as<float>(), dy.as<float>(), call.attrs.as<Conv2dAttrs>().options.activation, place}, gradient(0),
                  gradient(1), gradient(2), static_cast<float*>(call.workspace));
    return;
  }
  // Only at the places of the largest does the activation's derivative count, and so y is needed there alone.
  if (y.shape.elements() > 0) {
    inner.split(true);
    dispatch_compute(y.dtype, [&]<class T>() {
      const int64_t elements = inner.images.shape.elements();
      parallel_for(elements, 1 << 14, [&](int64_t begin, int64_t end) {
        std::fill(inner.y.as<T>() + begin, inner.y.as<T>() + end, T(0));
        std::fill(inner.dy.as<T>() + begin, inner.dy.as<T>() + end, T(0));
      });
      const Four four(inner.images.shape);
      each_window(inner.images.shape, y.shape, [&](int64_t from, int64_t to) {
        const int64_t at = from + four.at[place[to]];
        inner.y.as<T>()[at] = y.as<T>()[to];
        inner.dy.as<T>()[at] = dy.as<T>()[to];
      });
    });
  }
  conv2d_grad(inner.call);
}

}  // namespace cpu

namespace {

// No two results of a window are so close that a difference would change the larger.
Samples conv2d_max_pool2d_samples(DType dtype) {
  const auto sample = [&](const Shape& x, const Shape& weight, const Conv2dOptions& options, bool bias = true) {
    const Tensor b = bias ? normal_sample({weight[3]}, dtype, 3) : Tensor();
    return Sample{{normal_sample(x, dtype, 1), normal_sample(weight, dtype, 2), b}, Conv2dAttrs{options}};
  };
  return {sample({2, 5, 7, 3}, {3, 3, 3, 5}, {}),
          sample({1, 6, 9, 2}, {3, 2, 2, 3}, {.stride = {2, 1}, .padding = {1, 0}, .activation = Activation::tanh}),
          sample({2, 8, 7, 2}, {2, 3, 2, 4}, {.padding = {1, 0}, .dilation = {3, 2}}, false)};
}

}  // namespace

constinit const Op conv2d_max_pool2d_op = {
    .name = op_name,
    .formula = "y = max of f(x * w + b) over each 2 x 2; as conv2d",
    .inputs = 3,
    .infer = infer_conv2d_max_pool2d,
    .forward = {cpu::conv2d_max_pool2d, ON_CUDA(conv2d_max_pool2d), workspace, ON_CUDA(conv2d_max_pool2d_workspace)},
    .backward = {cpu::conv2d_max_pool2d_grad, ON_CUDA(conv2d_max_pool2d_grad), grad_workspace,
                 ON_CUDA(conv2d_max_pool2d_grad_workspace)},
    .optional = 0b100,
    .needs_in = 0b011,
    .differentiable_out = 0b01,
    .accumulates = true,
    .samples = conv2d_max_pool2d_samples,
};

Tensor conv2d_max_pool2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  return apply(conv2d_max_pool2d_op, {x, weight, bias}, Conv2dAttrs{options})[0];
}

}  // namespace xent
