// Convolution: what slides over the images, for the kernels and launches of conv2d and conv2d_max_pool2d.
#pragma once

#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/cuda/divisor.cuh>
#include <xent/ops/conv2d.h>

namespace xent::cuda {

struct Convolution {
  int64_t batch, height, width, in;     // of the images
  int64_t kernel_height, kernel_width;  // of the weight
  int64_t out_height, out_width, out;   // of the result
  Extent2d stride, padding, dilation;
  Divisor by_height, by_width, by_in, by_kernel_width, by_out_height, by_out_width, by_out;  // for kernels
  Divisor by_stride_height, by_stride_width;

  Convolution(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& options)
      : batch(x[0]),
        height(x[1]),
        width(x[2]),
        in(x[3]),
        kernel_height(weight[0]),
        kernel_width(weight[1]),
        out_height(y[1]),
        out_width(y[2]),
        out(y[3]),
        stride(options.stride),
        padding(options.padding),
        dilation(options.dilation),
        by_height(height),
        by_width(width),
        by_in(in),
        by_kernel_width(kernel_width),
        by_out_height(out_height),
        by_out_width(out_width),
        by_out(out),
        by_stride_height(stride.height),
        by_stride_width(stride.width) {}

  constexpr int64_t depth() const { return kernel_height * kernel_width * in; }  // of a patch
  constexpr int64_t image_pixels() const { return out_height * out_width; }
  constexpr int64_t pixels() const { return batch * image_pixels(); }

  // The patches of output pixels are gathered for so many at a time that they stay in the L2 cache.
  int64_t pixels_at_once(size_t element) const {
    constexpr int64_t most_bytes = 24 << 20;
    return std::max<int64_t>(1, most_bytes / static_cast<int64_t>(element) / depth());
  }

  // Bytes of the patches; none where the images are the patches, or are read where they are.
  size_t forward_workspace(size_t element) const { return direct() ? 0 : grad_workspace(element); }
  size_t grad_workspace(size_t element) const {
    if (pointwise()) return 0;
    return static_cast<size_t>(std::min(pixels_at_once(element), pixels()) * depth()) * element;
  }

  // One pixel in, one pixel out.
  bool pointwise() const { return kernel_height == 1 && kernel_width == 1 && stride == 1 && padding == 0; }

  // With one input channel a patch is small, and gathering it costs more than what is done with it.
  bool direct() const { return in == 1 && depth() <= 64; }
};

// y = f(x * weight + bias), [pixels, out]; bias may be null. Instantiated for float and double, as is the next.
template <class T>
void convolve(const Call& call, const Convolution& c, const T* x, const T* weight, const T* bias, Activation activation,
              T* y, void* workspace);

// The gradients of a call's images and weight that are wanted, from dz, [pixels, out].
template <class T>
void convolve_grad(const Call& call, const Convolution& c, const T* dz, void* workspace);

// 0 to every gradient that is not added to: those of nothing.
void no_gradients(const Call& call);

}  // namespace xent::cuda
