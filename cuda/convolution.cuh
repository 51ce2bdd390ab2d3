// Convolution: its shape with the divisors that kernels take it apart by, and the launches of conv2d and
// conv2d_max_pool2d.
#pragma once

#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/cuda/divisor.cuh>
#include <xent/ops/conv2d.h>

namespace xent::cuda {

struct Convolution : ConvolutionShape {
  Divisor by_height, by_width, by_in, by_kernel_width, by_out_height, by_out_width, by_out;  // for kernels
  Divisor by_stride_height, by_stride_width;

  Convolution(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& options)
      : ConvolutionShape(x, weight, y, options),
        by_height(height),
        by_width(width),
        by_in(in),
        by_kernel_width(kernel_width),
        by_out_height(out_height),
        by_out_width(out_width),
        by_out(out),
        by_stride_height(stride.height),
        by_stride_width(stride.width) {}

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
