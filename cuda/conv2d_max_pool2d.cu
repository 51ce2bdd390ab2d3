// conv2d_max_pool2d on the GPU:  y = the largest of each 2 x 2 of f(x * w + b), and which of the four it is
//                                dz = dy f'(y) at the place of the largest, 0 elsewhere;  dx, dw, db as for conv2d
//
// The products, without bias and activation, are in the workspace. One pass over them adds the bias, takes f and the
// largest: each product is read once, and what f makes of it is written for every fourth. Backward makes dz of the
// images and the bias gradient in one pass. The same rules as on the CPU: the first of equals, and a NaN is larger than
// all.
#include <array>

#include <xent/cuda/bias_activation.cuh>
#include <xent/cuda/convolution.cuh>

namespace xent::cuda {

namespace kernels {

template <class F, class T>
__global__ void __launch_bounds__(256)
    pool_products(F function, const T* products, const T* bias, int64_t elements, int64_t height, int64_t width,
                  Divisor channels, Divisor out_height, Divisor out_width, T* y, uint8_t* place) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto [pixel, channel] = channels.of(at);
    const auto [line, column] = out_width.of(pixel);
    const auto [image, row] = out_height.of(line);
    const T* const four = products + ((image * height + 2 * row) * width + 2 * column) * channels.by + channel;
    const T term = bias ? bias[channel] : T(0);
    T largest = function.f(four[0] + term);
    uint8_t which = 0;
    for (uint8_t k = 1; k < 4; ++k) {
      const T other = function.f(four[(k / 2 * width + k % 2) * channels.by] + term);
      if (other <= largest || largest != largest) continue;
      largest = other;
      which = k;
    }
    y[at] = largest;
    place[at] = which;
  }
}

}  // namespace kernels

namespace {

// dz of an element of the images, [pixels, channels], which is also left in its place.
template <class F, class T>
struct PooledGrad {
  F function;
  const T *y, *dy;
  const uint8_t* place;
  T* dz;
  Divisor height, width;
  int64_t channels, out_height, out_width;

  __device__ T operator()(int64_t pixel, int64_t channel) const {
    const auto [line, column] = width.of(pixel);
    const auto [image, row] = height.of(line);
    T value = 0;
    if (row / 2 < out_height && column / 2 < out_width) {
      const int64_t from = ((image * out_height + row / 2) * out_width + column / 2) * channels + channel;
      if (place[from] == row % 2 * 2 + column % 2) value = function.df(y[from]) * dy[from];
    }
    return dz[pixel * channels + channel] = value;
  }
  template <class V>
  void for_each_pointer(V&& visit) const {
    visit(y);
    visit(dy);
    visit(place);
    visit(dz);
  }
};

const Conv2dOptions& options_of(const Call& call) { return call.attrs.as<Conv2dAttrs>().options; }

// The convolution, whose result is in the workspace and not in the call.
Convolution convolution_of(const Call& call) {
  const auto spec = [](const Slice& slice) { return Spec{slice.shape, slice.dtype, slice.shape.rank() > 0}; };
  const std::array in{spec(call.in[0]), spec(call.in[1]), spec(call.in[2])};
  const Specs images = infer_convolution("conv2d_max_pool2d", {in.data(), in.size()}, call.attrs);
  return {call.in[0].shape, call.in[1].shape, images[0].shape, options_of(call)};
}

size_t bytes_of_images(const Convolution& c, size_t element) {
  return GradWorkspace::aligned(static_cast<size_t>(c.pixels() * c.out) * element);
}

size_t bytes_of_sums(const Convolution& c) { return GradWorkspace::aligned(bias_grad_workspace(c.pixels(), c.out)); }

}  // namespace

size_t conv2d_max_pool2d_workspace(const Call& call) {
  if (call.out[0].shape.elements() == 0) return 0;
  const Convolution c = convolution_of(call);
  const size_t element = size_of(call.out[0].dtype);
  return bytes_of_images(c, element) + c.forward_workspace(element);
}

size_t conv2d_max_pool2d_grad_workspace(const Call& call) {
  if (call.out[0].shape.elements() == 0) return 0;
  const Convolution c = convolution_of(call);
  const size_t element = size_of(call.out[0].dtype);
  return bytes_of_sums(c) + bytes_of_images(c, element) + c.grad_workspace(element);
}

void conv2d_max_pool2d(const Call& call) {
  const Slice &y = call.out[0], &place = call.out[1];
  if (y.shape.elements() == 0) return;
  const Convolution c = convolution_of(call);
  dispatch_compute(y.dtype, [&]<class T>() {
    T* const products = static_cast<T*>(call.workspace);
    convolve<T>(call, c, call.in[0].as<T>(), call.in[1].as<T>(), nullptr, Activation::none, products,
                static_cast<unsigned char*>(call.workspace) + bytes_of_images(c, sizeof(T)));
    with_activation(options_of(call).activation, [&]<class F>(F function) {
      const int64_t elements = y.shape.elements();
      start(call, "pool_products", {blocks_for(elements), threads_per_block, 0, threads_per_block},
            kernels::pool_products<F, T>, function, products, call.in[2].as<T>(), elements, c.out_height, c.out_width,
            c.by_out, Divisor(y.shape[1]), Divisor(y.shape[2]), y.as<T>(), place.as<uint8_t>());
    });
  });
}

void conv2d_max_pool2d_grad(const Call& call) {
  const Slice& y = call.out[0];
  if (y.shape.elements() == 0) return no_gradients(call);
  const Convolution c = convolution_of(call);
  auto* const workspace = static_cast<unsigned char*>(call.workspace);
  dispatch_compute(y.dtype, [&]<class T>() {
    T* const dz = reinterpret_cast<T*>(workspace + bytes_of_sums(c));
    with_activation(options_of(call).activation, [&]<class F>(F function) {
      const PooledGrad<F, T> value{function,   y.as<T>(),       call.grad_out[0].as<T>(), call.out[1].as<uint8_t>(),
                                   dz,         c.by_out_height, c.by_out_width,           c.out,
                                   y.shape[1], y.shape[2]};
      bias_grad<T>(call, c.pixels(), c.out, value, call.grad_in[2], reinterpret_cast<double*>(workspace));
    });
    convolve_grad<T>(call, c, dz, workspace + bytes_of_sums(c) + bytes_of_images(c, sizeof(T)));
  });
}

}  // namespace xent::cuda
