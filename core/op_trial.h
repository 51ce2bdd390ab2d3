// What the checks of an op share: which inputs want a gradient, and memory that shows what was never written.
#pragma once

#include <xent/core/op.h>

namespace xent {

// Says whether an input of an op can get a gradient.
inline bool wants_gradient(const Op& op, const Tensor& input, size_t i) {
  return input && is_floating(input.dtype()) && op.differentiable >> i & 1 && !(op.updates >> i & 1);
}

// Fills fresh memory with NaN while it lives.
class PoisonScope {
 public:
  PoisonScope() : before_(poison_fresh_memory(true)) {}
  ~PoisonScope() { poison_fresh_memory(before_); }
  PoisonScope(const PoisonScope&) = delete;
  PoisonScope& operator=(const PoisonScope&) = delete;

 private:
  bool before_;
};

}  // namespace xent
