// Normalisation layers.
#pragma once

#include <string>

#include <xent/nn/module.h>
#include <xent/ops/ops.h>

namespace xent {

// Normalises each channel of [batch, height, width, channels], then scales and shifts it. While a tape records it uses
// the batch's mean and variance and updates the running ones; otherwise, and when frozen, it uses the running ones.
//
//   BatchNorm2d norm(32);
//   norm.freeze();  // fine-tuning: statistics stay as they are; norm.set_requires_grad(false) holds the rest as well
class BatchNorm2d : public Module {
 public:
  struct Options {
    double momentum = 0.1;  // share of each batch in the running statistics
    double epsilon = 1e-5;
    DType dtype = DType::f32;
    Device device = Device::cpu();
  };

  explicit BatchNorm2d(int64_t channels) : BatchNorm2d(channels, Options()) {}
  BatchNorm2d(int64_t channels, const Options& options);

  Tensor forward(const Tensor& x) override;
  void visit(Visitor& visitor) override {
    visitor("weight", weight)("bias", bias).buffer("running_mean", running_mean).buffer("running_var", running_var);
  }
  std::string describe() const override;

  void freeze(bool on = true) { frozen_ = on; }  // not seen by a Step that is recorded already
  bool frozen() const { return frozen_; }

  Tensor weight, bias;               // [channels], from 1 and 0
  Tensor running_mean, running_var;  // [channels], from 0 and 1
  BatchNormOptions options;

 private:
  bool frozen_ = false;
};

// Normalises over the last axes, then scales and shifts each element.
//
//   LayerNorm norm({256});  // [64, 256] -> [64, 256], each row on its own
class LayerNorm : public Module {
 public:
  struct Options {
    double epsilon = 1e-5;
    DType dtype = DType::f32;
    Device device = Device::cpu();
  };

  explicit LayerNorm(const Shape& normalised) : LayerNorm(normalised, Options()) {}
  LayerNorm(const Shape& normalised, const Options& options);

  Tensor forward(const Tensor& x) override { return layer_norm(x, weight, bias, options); }
  void visit(Visitor& visitor) override { visitor("weight", weight)("bias", bias); }
  std::string describe() const override;

  Tensor weight, bias;  // of the normalised shape, from 1 and 0
  LayerNormOptions options;
};

}  // namespace xent
