#include <xent/nn/norm_layers.h>

#include <xent/core/require.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

Tensor buffer(const char* who, const Shape& shape, double value, DType dtype, Device device) {
  Tensor tensor = Tensor::persistent(who, shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

}  // namespace

BatchNorm2d::BatchNorm2d(int64_t channels, const Options& o) : options{o.momentum, o.epsilon} {
  require<ArgumentError>(channels >= 1, "BatchNorm2d({}): there must be a channel", channels);
  const auto constant = [&](double value) { return buffer("a BatchNorm2d", {channels}, value, o.dtype, o.device); };
  weight = constant(1).set_requires_grad();
  bias = constant(0).set_requires_grad();
  running_mean = constant(0);
  running_var = constant(1);
}

Tensor BatchNorm2d::forward(const Tensor& x) {
  if (Tape::recording() && !frozen_) return batch_norm2d(x, weight, bias, running_mean, running_var, options);
  return batch_norm2d_frozen(x, weight, bias, running_mean, running_var, options.epsilon);
}

std::string BatchNorm2d::describe() const {
  return fmt::format("BatchNorm2d({}{})", weight.shape()[0], frozen_ ? ", frozen" : "");
}

LayerNorm::LayerNorm(const Shape& normalised, const Options& o) : options{normalised.rank(), o.epsilon} {
  require<ArgumentError>(normalised.rank() >= 1 && normalised.elements() >= 1,
                         "LayerNorm({}): there must be an axis, and an element", normalised);
  weight = buffer("a LayerNorm", normalised, 1, o.dtype, o.device).set_requires_grad();
  bias = buffer("a LayerNorm", normalised, 0, o.dtype, o.device).set_requires_grad();
}

std::string LayerNorm::describe() const { return fmt::format("LayerNorm({})", weight.shape()); }

}  // namespace xent
