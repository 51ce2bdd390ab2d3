// Layers: the modules models are built from.
#pragma once

#include <xent/core/random.h>
#include <xent/nn/module.h>
#include <xent/ops/ops.h>

namespace xent {

struct LinearOptions {
  bool bias = true;
  DType dtype = DType::f32;
};

// Computes activation(x weight + bias):  [..., in] -> [..., out].
// Weight [in, out] and bias [out] start uniform in +-1/sqrt(in), as PyTorch's do. Throws ArgumentError for extents
// below 1.
//
//   Linear layer(784, 512, random, Activation::relu);
//   Tensor hidden = layer(images);  // [64, 784] -> [64, 512]
class Linear : public Module {
 public:
  Linear(int64_t in, int64_t out, Generator& random, Activation activation = Activation::none,
         const LinearOptions& options = {});

  Tensor forward(const Tensor& x) override { return linear(x, weight, bias, activation); }
  void visit(Visitor& visitor) override { visitor("weight", weight)("bias", bias); }
  std::string describe() const override;

  Tensor weight;  // [in, out]
  Tensor bias;    // [out], or an empty handle
  Activation activation;
};

// Flattens all axes but the first:  [64, 28, 28, 1] -> [64, 784].
struct Flatten : Module {
  Tensor forward(const Tensor& x) override { return flatten(x); }
  std::string describe() const override { return "Flatten"; }
};

struct Relu : Module {
  Tensor forward(const Tensor& x) override { return relu(x); }
  std::string describe() const override { return "Relu"; }
};

struct Tanh : Module {
  Tensor forward(const Tensor& x) override { return tanh(x); }
  std::string describe() const override { return "Tanh"; }
};

struct Sigmoid : Module {
  Tensor forward(const Tensor& x) override { return sigmoid(x); }
  std::string describe() const override { return "Sigmoid"; }
};

struct Gelu : Module {
  Tensor forward(const Tensor& x) override { return gelu(x); }
  std::string describe() const override { return "Gelu"; }
};

}  // namespace xent
