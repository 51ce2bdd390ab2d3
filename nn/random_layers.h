// Layers that draw random numbers while a tape records, and pass their input on otherwise.
//
// Their numbers come from the generator they are given, whose state is on the device: a replayed Step draws new ones.
// Save it with the model: checkpoint.add("random", random.state()).
#pragma once

#include <string>

#include <xent/core/random.h>
#include <xent/nn/module.h>
#include <xent/ops/ops.h>

namespace xent {

// Zeroes each element with probability p and scales the others by 1 / (1 - p). Throws ArgumentError unless p is in
// [0, 1].
//
//   Dropout dropout(0.25, random);
class Dropout : public Module {
 public:
  Dropout(double p, Generator& random);

  Tensor forward(const Tensor& x) override;
  std::string describe() const override;

  double p() const { return p_; }

 private:
  double p_;
  Generator random_;
};

// Shifts and flips each image by amounts of its own: more variety from the same training data. Comes first in a model.
//
//   RandomShiftFlip augment({.shift = 2, .flip = true, .fill = background}, random);
//
// `fill` is a value of normalised images: (0 - mean) / deviation is black. Throws ArgumentError for a negative shift or
// a fill that is not finite, and where it is applied for a shift beyond the images.
class RandomShiftFlip : public Module {
 public:
  RandomShiftFlip(const ShiftFlipOptions& options, Generator& random);

  Tensor forward(const Tensor& x) override;
  std::string describe() const override;

 private:
  ShiftFlipOptions options_;
  Generator random_;
};

}  // namespace xent
