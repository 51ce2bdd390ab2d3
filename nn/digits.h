// Generated digits: a stand-in for MNIST on machines without data. Handwriting it is not, but it is learned like it: a
// linear model gets about nine of ten right, a small MLP nearly all.
//
//   ImageDataset train = generated_digits(10000, 1);  // 28 x 28 pixels, ten classes
//   ImageDataset test = generated_digits(2000, 2);
#pragma once

#include <cstdint>

#include <xent/nn/image_dataset.h>

namespace xent {

// Draws digits with random place, size, slant, turn, pen and noise. Image i depends on seed and i only, and every ten
// images in a row from the start show each digit once, in random order. Throws ArgumentError for a count below 1.
ImageDataset generated_digits(int64_t count, uint64_t seed);

}  // namespace xent
