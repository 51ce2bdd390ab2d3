#include <xent/nn/clip.h>

#include <cmath>

#include <xent/core/require.h>
#include <xent/ops/ops.h>

namespace xent {

namespace {

// The sum of all squares, f64 [].
Tensor squares_of(const Gradients& gradients) {
  const Device device = gradients.size() == 0 ? Device::cpu() : gradients.begin()->second.device();
  Tensor total = Tensor::zeros({}, DType::f64, device);
  for (const auto& [id, gradient] : gradients) accumulate_squares(total, gradient);
  return total;
}

}  // namespace

Tensor gradient_norm(const Gradients& gradients) { return sqrt(squares_of(gradients)); }

Tensor clip_gradients(Gradients& gradients, double max_norm) {
  require<ArgumentError>(std::isfinite(max_norm) && max_norm > 0,
                         "clip_gradients: a norm of at most {}; it must be positive and finite", max_norm);
  const Tensor squares = squares_of(gradients);
  for (const auto& [id, gradient] : gradients) clip_to_norm(gradient, squares, max_norm);
  return sqrt(squares);
}

}  // namespace xent
