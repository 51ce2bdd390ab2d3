// Initialisers: fill a fresh parameter with random numbers whose spread keeps signals at their size from layer to
// layer.
//
//   Tensor weight = kaiming_uniform({784, 512}, random);  // uniform in +-sqrt(6 / 784)
//
// A weight is [in, out] or [..., in, out]: the fan-in is the product of all extents but the last, the fan-out is the
// last times the extents before `in`. All numbers come from the generator, so equal seeds give equal models. Sources:
// He et al. 2015 (Kaiming), Glorot and Bengio 2010 (Xavier).
#pragma once

#include <xent/core/random.h>
#include <xent/core/tensor.h>

namespace xent {

// Uniform in +-gain sqrt(3 / fan_in), normal of deviation gain / sqrt(fan_in). The gain sqrt(2) suits ReLU.
Tensor kaiming_uniform(const Shape& shape, Generator& random, double gain = 1.4142135623730951,
                       DType dtype = DType::f32);
Tensor kaiming_normal(const Shape& shape, Generator& random, double gain = 1.4142135623730951,
                      DType dtype = DType::f32);

// Uniform in +-gain sqrt(6 / (fan_in + fan_out)), normal of deviation gain sqrt(2 / (fan_in + fan_out)).
Tensor xavier_uniform(const Shape& shape, Generator& random, double gain = 1, DType dtype = DType::f32);
Tensor xavier_normal(const Shape& shape, Generator& random, double gain = 1, DType dtype = DType::f32);

struct Fans {
  double in, out;
};
Fans fans(const Shape& shape);  // throws ShapeError below rank 2, or without inputs

}  // namespace xent
