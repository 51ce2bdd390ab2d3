// Clipping by norm: gradients that are too long together are shortened, and keep their direction.
//
//   Step train_step([&](const Tensor& images, const Tensor& labels) {
//     Tape tape;
//     Tensor loss = softmax_cross_entropy(model(images), labels);
//     Gradients gradients = tape.backward(loss);
//     Tensor norm = clip_gradients(gradients, 1.0);
//     optimizer.step(gradients);
//     return std::array{loss, norm};
//   });
#pragma once

#include <xent/core/tape.h>

namespace xent {

// Returns the Euclidean norm of all gradients together, f64 []; 0 if there are none.
Tensor gradient_norm(const Gradients& gradients);

// Multiplies all gradients in place by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does, and
// returns the norm that they had, f64 []. Decided on the device, so that a replayed Step decides anew. An infinite norm
// makes finite gradients 0 and the others NaN; a norm of NaN makes all of them NaN. Throws ArgumentError unless
// max_norm is positive and finite.
Tensor clip_gradients(Gradients& gradients, double max_norm);

}  // namespace xent
