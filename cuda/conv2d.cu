// conv2d on the GPU:  y = f(x * w + b);  dz = dy f'(z), and from it dx, dw and db as on the CPU (ops/conv2d.cpp)
//
// Images become patches (im2col.cuh), at most 24 MB of them at a time so that they are still in the L2 cache when they
// are multiplied, and the product of patches and weight is y as it lies, [pixels, out]. dw = patches' dz, a chunk after
// the other; dx = dz w' put back where it was read (col2im). Kernels of one pixel multiply the images themselves. With
// one input channel, and so with the first layer, a thread computes its result from the images: there the columns would
// be nine times what is read.
#include <xent/cuda/bias_activation.cuh>
#include <xent/cuda/convolution.cuh>
#include <xent/cuda/im2col.cuh>

namespace xent::cuda {

namespace kernels {

// Padding is multiplied like any element, as on the CPU: 0 times infinity is NaN.
template <class F, class T>
__global__ void __launch_bounds__(256) convolve_one_channel(Convolution c, int64_t elements, const T* x,
                                                            const T* weight, const T* bias, F function, T* y) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto [pixel, o] = c.by_out.of(at);
    const auto [line, j] = c.by_out_width.of(pixel);
    const auto [number, i] = c.by_out_height.of(line);
    const int64_t left = j * c.stride.width - c.padding.width, top = i * c.stride.height - c.padding.height;
    const T* const image = x + number * c.height * c.width;
    T sum = 0;
    for (int64_t k = 0; k < c.kernel_height; ++k)
      for (int64_t l = 0; l < c.kernel_width; ++l) {
        const int64_t row = top + k * c.dilation.height, column = left + l * c.dilation.width;
        const bool inside = row >= 0 && row < c.height && column >= 0 && column < c.width;
        sum += (inside ? image[row * c.width + column] : T(0)) * weight[(k * c.kernel_width + l) * c.out + o];
      }
    y[at] = function.f(bias ? sum + bias[o] : sum);
  }
}

}  // namespace kernels

template <class T>
void convolve(const Call& call, const Convolution& c, const T* x, const T* weight, const T* bias, Activation activation,
              T* y, void* workspace) {
  if (c.direct())
    return with_activation(activation, [&]<class F>(F function) {
      const int64_t elements = c.pixels() * c.out;
      start(call, "convolve_one_channel", {blocks_for(elements), threads_per_block, 0, threads_per_block},
            kernels::convolve_one_channel<F, T>, c, elements, x, weight, bias, function, y);
    });
  if (c.pointwise()) return gemm_activation<T>(call, {c.pixels(), c.out, c.in}, x, weight, bias, activation, y);
  T* const columns = static_cast<T*>(workspace);
  const int64_t step = c.pixels_at_once(sizeof(T));
  for (int64_t first = 0; first < c.pixels(); first += step) {
    const int64_t count = std::min(step, c.pixels() - first);
    im2col<T>(call, c, first, count, x, columns);
    gemm_activation<T>(call, {count, c.out, c.depth()}, columns, weight, bias, activation, y + first * c.out);
  }
}

namespace {

// Whole images at a time where they fit, else parts of one: only the parts of one image overlap, and they are added.
template <class T>
void grad_of_images(const Call& call, const Convolution& c, const T* dz, T* columns) {
  const T* const weight = call.in[1].as<T>();
  const Slice& dx = call.grad_in[0];
  if (c.pointwise()) return gemm<T>(call, {c.pixels(), c.in, c.out, false, true}, dz, weight, dx.beta, dx.as<T>());
  const int64_t step = c.pixels_at_once(sizeof(T)), images = std::max<int64_t>(1, step / c.image_pixels());
  for (int64_t image = 0; image < c.batch; image += images) {
    const int64_t together = std::min(images, c.batch - image);
    const int64_t begin = image * c.image_pixels(), end = begin + together * c.image_pixels();
    for (int64_t first = begin; first < end; first += step) {
      const int64_t count = std::min(step, end - first);
      gemm<T>(call, {count, c.depth(), c.out, false, true}, dz + first * c.out, weight, 0, columns);
      col2im<T>(call, c, first, count, columns, image, together, first == begin ? dx.beta : 1, dx.as<T>());
    }
  }
}

template <class T>
void grad_of_weight(const Call& call, const Convolution& c, const T* dz, T* columns) {
  const T* const x = call.in[0].as<T>();
  const Slice& dw = call.grad_in[1];
  if (c.pointwise()) return gemm<T>(call, {c.in, c.out, c.pixels(), true, false}, x, dz, dw.beta, dw.as<T>());
  const int64_t step = c.pixels_at_once(sizeof(T));
  for (int64_t first = 0; first < c.pixels(); first += step) {
    const int64_t count = std::min(step, c.pixels() - first);
    im2col<T>(call, c, first, count, x, columns);
    gemm<T>(call, {c.depth(), c.out, count, true, false}, columns, dz + first * c.out, first == 0 ? dw.beta : 1,
            dw.as<T>());
  }
}

Convolution convolution_of(const Call& call) {
  return {call.in[0].shape, call.in[1].shape, call.out[0].shape, call.attrs.as<Conv2dAttrs>().options};
}

GradWorkspace grad_workspace_of(const Call& call) {
  const Slice& y = call.out[0];
  const Convolution c = convolution_of(call);
  return {call.attrs.as<Conv2dAttrs>().options.activation, c.pixels(), c.out, y.dtype};
}

}  // namespace

template <class T>
void convolve_grad(const Call& call, const Convolution& c, const T* dz, void* workspace) {
  if (call.grad_in[0]) grad_of_images<T>(call, c, dz, static_cast<T*>(workspace));
  if (call.grad_in[1]) grad_of_weight<T>(call, c, dz, static_cast<T*>(workspace));
}

template void convolve(const Call&, const Convolution&, const float*, const float*, const float*, Activation, float*,
                       void*);
template void convolve(const Call&, const Convolution&, const double*, const double*, const double*, Activation,
                       double*, void*);
template void convolve_grad(const Call&, const Convolution&, const float*, void*);
template void convolve_grad(const Call&, const Convolution&, const double*, void*);

void no_gradients(const Call& call) {
  for (const Slice& gradient : call.grad_in)
    if (const auto elements = static_cast<size_t>(gradient.shape.elements()); gradient && gradient.beta == 0)
      check(cudaMemsetAsync(gradient.data, 0, elements * size_of(gradient.dtype), stream_of(call)), "no_gradients");
}

size_t conv2d_workspace(const Call& call) {
  const Slice& y = call.out[0];
  return y.shape.elements() == 0 ? 0 : convolution_of(call).forward_workspace(size_of(y.dtype));
}

size_t conv2d_grad_workspace(const Call& call) {
  const Slice& y = call.out[0];
  if (y.shape.elements() == 0) return 0;
  return grad_workspace_of(call).bytes() + convolution_of(call).grad_workspace(size_of(y.dtype));
}

void conv2d(const Call& call) {
  const Slice& y = call.out[0];
  if (y.shape.elements() == 0) return;
  dispatch_compute(y.dtype, [&]<class T>() {
    convolve<T>(call, convolution_of(call), call.in[0].as<T>(), call.in[1].as<T>(), call.in[2].as<T>(),
                call.attrs.as<Conv2dAttrs>().options.activation, y.as<T>(), call.workspace);
  });
}

void conv2d_grad(const Call& call) {
  if (call.out[0].shape.elements() == 0) return no_gradients(call);
  const GradWorkspace sizes = grad_workspace_of(call);
  auto* const workspace = static_cast<unsigned char*>(call.workspace);
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Convolution c = convolution_of(call);
    const T* dz =
        activation_grad<T>(call, call.attrs.as<Conv2dAttrs>().options.activation, c.pixels(), c.out, call.grad_in[2],
                           reinterpret_cast<double*>(workspace), reinterpret_cast<T*>(workspace + sizes.sums));
    convolve_grad<T>(call, c, dz, workspace + sizes.bytes());
  });
}

}  // namespace xent::cuda
