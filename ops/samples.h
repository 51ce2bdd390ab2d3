// Samples: the tensors that ops show themselves with, in tests, documentation and benchmarks.
//
//   Samples relu_samples(DType dtype) { return {{{nonzero_sample({3, 5}, dtype, 1)}, {}}}; }
//
// They are made on the host from a seed, so a failure on a sample can be repeated.
#pragma once

#include <cstdint>

#include <xent/core/tensor.h>

namespace xent {

// Makes normally distributed numbers of mean 0 and deviation 1.
Tensor normal_sample(const Shape& shape, DType dtype, uint64_t seed);

// Makes numbers in [0.5, 2]: for logarithms and denominators.
Tensor positive_sample(const Shape& shape, DType dtype, uint64_t seed);

// Makes numbers in [-2, -0.1] and [0.1, 2]: for functions with a kink at 0, which a difference must not straddle.
Tensor nonzero_sample(const Shape& shape, DType dtype, uint64_t seed);

// Makes class labels in [0, classes), of dtype u8, i32 or i64. Throws ArgumentError if there is no class.
Tensor label_sample(const Shape& shape, int64_t classes, DType dtype, uint64_t seed);

}  // namespace xent
