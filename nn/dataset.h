// Dataset: samples with labels, by index. A data set of your own is three functions:
//
//   struct Xor : Dataset {
//     int64_t size() const override { return 4; }
//     Shape sample_shape() const override { return {2}; }
//     int64_t get(int64_t index, std::span<float> sample) const override {
//       sample[0] = static_cast<float>(index % 2);
//       sample[1] = static_cast<float>(index / 2);
//       return sample[0] != sample[1];  // the label
//     }
//   };
//
// A Loader (loader.h) makes batches of it.
#pragma once

#include <cstdint>
#include <span>

#include <xent/core/shape.h>
#include <xent/core/tensor.h>

namespace xent {

// Samples that lie in memory as bytes: element k of sample i is scale pixels[i, k] + offset.
struct ByteSamples {
  Tensor pixels;  // u8 [n, ...sample shape]
  Tensor labels;  // u8 [n]
  float scale = 1, offset = 0;
};

class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;
  virtual Shape sample_shape() const = 0;  // of one input: [height, width, channels] for images

  // Writes every element of one sample, index in [0, size()), and returns its label. Called from several threads at
  // once. What it throws ends the loop over the Loader.
  virtual int64_t get(int64_t index, std::span<float> sample) const = 0;

  // Hears which sample a thread gets next, so that slow memory can be asked for it early. Need not do anything.
  virtual void prefetch([[maybe_unused]] int64_t index) const {}

  // Writes the samples of many indices one after the other, and their labels. Calls get from several threads; override
  // it where many samples are cheaper together. Throws ShapeError for spans of the wrong size.
  virtual void gather(std::span<const int64_t> indices, std::span<float> samples, std::span<int64_t> labels) const;

  // Returns the same samples as bytes, if that is how they lie in memory, so that a device can have all of them.
  virtual ByteSamples bytes() const { return {}; }
};

}  // namespace xent
