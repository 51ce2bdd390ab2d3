// Layers for images, [batch, height, width, channels]: convolution and pooling.
#pragma once

#include <concepts>

#include <xent/core/random.h>
#include <xent/nn/module.h>
#include <xent/ops/ops.h>

namespace xent {

// Computes activation(x * weight + bias):  [batch, h, w, in] -> [batch, h', w', out], see conv2d in ops/ops.h.
// Weight [kernel h, kernel w, in, out] and bias [out] start uniform in +-1/sqrt(kernel h kernel w in), as PyTorch's do.
// Throws ArgumentError for extents below 1.
//
//   Conv2d conv(1, 32, 3, random, {.padding = 1, .activation = Activation::relu});
//   Tensor maps = conv(images);  // [64, 28, 28, 1] -> [64, 28, 28, 32]
class Conv2d : public Module {
 public:
  struct Options {
    Extent2d stride = 1;
    Extent2d padding = 0;
    Extent2d dilation = 1;
    Activation activation = Activation::none;
    bool bias = true;
    DType dtype = DType::f32;
  };

  Conv2d(int64_t in, int64_t out, Extent2d kernel, Generator& random) : Conv2d(in, out, kernel, random, Options()) {}
  Conv2d(int64_t in, int64_t out, Extent2d kernel, Generator& random, const Options& options);

  Tensor forward(const Tensor& x) override { return conv2d(x, weight, bias, options); }

  // Computes max_pool2d(forward(x)), windows of 2 x 2, in one op. A Sequential does so for a MaxPool2d(2) that follows.
  Tensor max_pooled(const Tensor& x) const { return conv2d_max_pool2d(x, weight, bias, options); }
  Tensor forward_with(const Tensor& x, const Module& next) override;
  void visit(Visitor& visitor) override { visitor("weight", weight)("bias", bias); }
  std::string describe() const override;

  Tensor weight;  // [kernel h, kernel w, in, out]
  Tensor bias;    // [out], or an empty handle
  Conv2dOptions options;
};

// Takes the largest element of each window:  MaxPool2d(2) halves height and width.
//
//   MaxPool2d pool({.window = 3, .stride = 2, .padding = 1});
//   MaxPool2d tall({3, 2});  // numbers without names are the window's height and width
class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(Extent2d window) : options{.window = window} {}
  template <std::same_as<Pool2dOptions> Options = Pool2dOptions>  // so that the other one has precedence
  explicit MaxPool2d(const Options& pool = {}) : options(pool) {}

  Tensor forward(const Tensor& x) override { return max_pool2d(x, options); }
  std::string describe() const override;

  Pool2dOptions options;
};

// Takes the mean of each window, given as for MaxPool2d.
class AvgPool2d : public Module {
 public:
  explicit AvgPool2d(Extent2d window) : options{.window = window} {}
  template <std::same_as<Pool2dOptions> Options = Pool2dOptions>  // so that the other one has precedence
  explicit AvgPool2d(const Options& pool = {}) : options(pool) {}

  Tensor forward(const Tensor& x) override { return avg_pool2d(x, options); }
  std::string describe() const override;

  Pool2dOptions options;
};

// Takes the mean of each channel:  [batch, h, w, channels] -> [batch, channels].
struct GlobalAvgPool2d : Module {
  Tensor forward(const Tensor& x) override { return global_avg_pool2d(x); }
  std::string describe() const override { return "GlobalAvgPool2d"; }
};

}  // namespace xent
