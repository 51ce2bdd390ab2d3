// What conv2d and conv2d_max_pool2d share. Private.
#pragma once

#include <cstdint>
#include <span>

#include <xent/core/op.h>
#include <xent/ops/ops.h>

namespace xent {

struct Conv2dAttrs {
  Conv2dOptions options;
  bool operator==(const Conv2dAttrs& other) const {
    const Conv2dOptions &a = options, &b = other.options;
    return a.stride == b.stride && a.padding == b.padding && a.dilation == b.dilation && a.activation == b.activation;
  }
};

// What slides over the images, for the kernels of every device.
struct ConvolutionShape {
  int64_t batch, height, width, in;     // of the images
  int64_t kernel_height, kernel_width;  // of the weight
  int64_t out_height, out_width, out;   // of the result
  Extent2d stride, padding, dilation;

  ConvolutionShape(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& options)
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
        dilation(options.dilation) {}

  // constexpr: kernels on a GPU call them too
  constexpr int64_t depth() const { return kernel_height * kernel_width * in; }  // of a patch
  constexpr int64_t image_pixels() const { return out_height * out_width; }
  constexpr int64_t pixels() const { return batch * image_pixels(); }

  // One pixel in, one pixel out: the images are the patches.
  bool pointwise() const { return kernel_height == 1 && kernel_width == 1 && stride == 1 && padding == 0; }
};

// The shape rule of a convolution of {x, weight, bias}; errors begin with the op's name.
Specs infer_convolution(const char* op, std::span<const Spec> in, const Attrs& attrs);

// The kernels of conv2d, and the bytes of workspace they take.
size_t conv2d_workspace(const Call& call);
size_t conv2d_grad_workspace(const Call& call);
namespace cpu {
void conv2d(const Call& call);
void conv2d_grad(const Call& call);
}  // namespace cpu

}  // namespace xent
