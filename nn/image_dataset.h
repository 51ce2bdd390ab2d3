// ImageDataset: images and labels in memory, a byte per pixel, normalised as they are handed out.
//
//   ImageDataset train = load_mnist(folder, Split::train);  // mnist.h
//   ImageDataset test = load_mnist(folder, Split::test);
//   const Normalisation normalisation = normalisation_of(train);
//   train.set_normalisation(normalisation);
//   test.set_normalisation(normalisation);  // the same for both: a model sees one scale
#pragma once

#include <cstdint>
#include <span>

#include <xent/core/tensor.h>
#include <xent/nn/dataset.h>

namespace xent {

// A pixel p of 0 to 255 becomes (p / 255 - mean) / deviation. The default maps to [0, 1].
struct Normalisation {
  double mean = 0;
  double deviation = 1;

  friend bool operator==(const Normalisation&, const Normalisation&) = default;
};

class ImageDataset : public Dataset {
 public:
  // Shares the bytes of images, u8 [n, height, width] or [n, height, width, channels], and labels, u8 [n].
  // Throws DTypeError, ShapeError if counts or ranks do not fit, ArgumentError if there is no image, LabelError for a
  // label outside [0, classes).
  ImageDataset(Tensor images, Tensor labels, int64_t classes);

  int64_t size() const override { return images_.shape()[0]; }
  Shape sample_shape() const override { return sample_shape_; }  // [height, width, channels]
  int64_t get(int64_t index, std::span<float> sample) const override;
  void prefetch(int64_t index) const override;
  ByteSamples bytes() const override;

  int64_t classes() const { return classes_; }
  const Tensor& images() const { return images_; }
  const Tensor& labels() const { return labels_; }

  // Takes effect from the next sample on; not to be called while a Loader gathers. Throws ArgumentError unless the mean
  // is a number and the deviation a positive one, not too small for floats.
  void set_normalisation(Normalisation normalisation);
  Normalisation normalisation() const { return normalisation_; }

 private:
  Tensor images_, labels_;
  Shape sample_shape_;
  int64_t classes_;
  Normalisation normalisation_;
  float scale_ = 1, offset_ = 0;  // the same as one product and one sum
};

// Returns the mean and standard deviation of all pixels, which make them mean 0, deviation 1. Images of one grey have
// no deviation: theirs is given as 1.
Normalisation normalisation_of(const ImageDataset& images);

}  // namespace xent
