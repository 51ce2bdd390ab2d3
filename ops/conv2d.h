// What conv2d and conv2d_max_pool2d share. Private.
#pragma once

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
