#include <xent/nn/image_dataset.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <xent/core/require.h>

namespace xent {

namespace {

Shape sample_shape_of(const Shape& images) {
  require<ShapeError>(images.rank() == 3 || images.rank() == 4,
                      "ImageDataset: images are {}, expected [n, height, width] or [n, height, width, channels]",
                      images);
  return {images[1], images[2], images.rank() == 4 ? images[3] : 1};
}

}  // namespace

ImageDataset::ImageDataset(Tensor images, Tensor labels, int64_t classes)
    : images_(std::move(images)),
      labels_(std::move(labels)),
      sample_shape_(sample_shape_of(images_.shape())),
      classes_(classes) {
  require<DTypeError>(images_.dtype() == DType::u8 && labels_.dtype() == DType::u8,
                      "ImageDataset: images are {} and labels are {}, expected u8 for both; cast first",
                      images_.dtype(), labels_.dtype());
  require<ShapeError>(labels_.rank() == 1 && labels_.shape()[0] == size(),
                      "ImageDataset: images are {}, but labels {}; expected a label per image, [{}]", images_.shape(),
                      labels_.shape(), size());
  require<ArgumentError>(images_.elements() > 0, "ImageDataset: no pixels in images of {}", images_.shape());
  images_.data<uint8_t>();  // on another device? That is told here, not by a Loader's threads
  const uint8_t* label = labels_.data<uint8_t>();
  for (int64_t i = 0; i < size(); ++i)
    require<LabelError>(label[i] < classes_, "ImageDataset: sample {}: label {} is not in [0, {})", i, label[i],
                        classes_);
  set_normalisation({});
}

int64_t ImageDataset::get(int64_t index, std::span<float> sample) const {
  require<ArgumentError>(index >= 0 && index < size(), "ImageDataset: sample {} is not in [0, {})", index, size());
  require<ShapeError>(static_cast<int64_t>(sample.size()) == sample_shape_.elements(),
                      "ImageDataset: a sample of {} does not fit {} floats", sample_shape_, sample.size());
  const uint8_t* pixels = images_.data<uint8_t>() + index * sample_shape_.elements();
  const float scale = scale_, offset = offset_;
  for (size_t i = 0; i < sample.size(); ++i) sample[i] = static_cast<float>(pixels[i]) * scale + offset;
  return labels_.data<uint8_t>()[index];
}

// Shuffled samples lie far apart: to wait for each takes three times as long as to convert it.
void ImageDataset::prefetch([[maybe_unused]] int64_t index) const {
#if defined(__GNUC__)
  constexpr int64_t cache_line = 64;
  if (index < 0 || index >= size()) return;  // get tells
  const int64_t bytes = sample_shape_.elements();
  const uint8_t* pixels = images_.data<uint8_t>() + index * bytes;
  for (int64_t i = 0; i < std::min<int64_t>(bytes, 4096); i += cache_line) __builtin_prefetch(pixels + i);
#endif
}

ByteSamples ImageDataset::bytes() const {
  const auto& s = sample_shape_;
  return {images_.view({size(), s[0], s[1], s[2]}, 0), labels_, scale_, offset_};
}

void ImageDataset::set_normalisation(Normalisation normalisation) {
  const auto [mean, deviation] = normalisation;
  const double scale = 1 / (255 * deviation), offset = -mean / deviation;
  constexpr double most = std::numeric_limits<float>::max() / 256;
  require<ArgumentError>(scale > 0 && scale < most && std::abs(offset) < most,
                         "set_normalisation: mean {}, deviation {}: expected numbers with a deviation above 0, as "
                         "normalisation_of gives them",
                         mean, deviation);
  normalisation_ = normalisation;
  scale_ = static_cast<float>(scale);
  offset_ = static_cast<float>(offset);
}

Normalisation normalisation_of(const ImageDataset& images) {
  const uint8_t* pixels = images.images().data<uint8_t>();
  const int64_t count = images.images().elements();
  uint64_t sum = 0, squares = 0;  // integers: exact, so their order does not matter
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t pixel = pixels[i];
    sum += pixel;
    squares += pixel * pixel;
  }
  const double mean = static_cast<double>(sum) / static_cast<double>(count);
  const double variance = static_cast<double>(squares) / static_cast<double>(count) - mean * mean;
  return {mean / 255, variance > 0 ? std::sqrt(variance) / 255 : 1};
}

}  // namespace xent
