// What the two files of an op of one's own share: docs/adding_an_op.md.
#pragma once

#include <xent/core/op.h>

struct LeakyReluAttrs {
  double slope;
  bool operator==(const LeakyReluAttrs&) const = default;
};

namespace xent::cuda {  // where ON_CUDA looks
void leaky_relu(const Call& call);
void leaky_relu_grad(const Call& call);
void leaky_relu_wrong_grad(const Call& call);
}  // namespace xent::cuda
