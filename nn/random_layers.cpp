#include <xent/nn/random_layers.h>

#include <cmath>

#include <xent/core/require.h>
#include <xent/core/tape.h>
#include <xent/nn/describe.h>

namespace xent {

Dropout::Dropout(double p, Generator& random) : p_(p), random_(random) {
  require<ArgumentError>(p >= 0 && p <= 1, "Dropout({}): the probability must be in [0, 1]", p);
}

Tensor Dropout::forward(const Tensor& x) { return Tape::recording() ? dropout(x, p_, random_) : x; }

std::string Dropout::describe() const { return fmt::format("Dropout({})", p_); }

RandomShiftFlip::RandomShiftFlip(const ShiftFlipOptions& options, Generator& random)
    : options_(options), random_(random) {
  const auto& [shift, flip, fill] = options;
  require<ArgumentError>(shift.height >= 0 && shift.width >= 0 && std::isfinite(fill),
                         "RandomShiftFlip({}): shifts must not be negative, and the fill, {}, finite", str(shift),
                         fill);
}

Tensor RandomShiftFlip::forward(const Tensor& x) {
  return Tape::recording() ? random_shift_flip(x, options_, random_) : x;
}

std::string RandomShiftFlip::describe() const {
  return fmt::format("RandomShiftFlip({}{})", str(options_.shift), options_.flip ? ", flip" : "");
}

}  // namespace xent
