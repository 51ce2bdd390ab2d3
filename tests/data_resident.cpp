// Loader: a data set that is kept on the device as bytes, .resident = true.
#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include <xent/core/error.h>
#include <xent/nn/image_dataset.h>
#include <xent/nn/loader.h>

#include "data_numbers.h"

using namespace xent;
using namespace data_numbers;

namespace {

// Images of 3 x 2 bytes that differ; image i has label i % 7.
ImageDataset some_images(int64_t count) {
  std::vector<uint8_t> pixels(static_cast<size_t>(6 * count)), labels(static_cast<size_t>(count));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(37 * i + i / 251);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<uint8_t>(i % 7);
  return ImageDataset(Tensor::from(pixels, {count, 3, 2}), Tensor::from(labels, {count}), 7);
}

// Seven samples of two numbers, whose bytes may be something else.
struct Bytes : Numbers {
  explicit Bytes(Tensor pixels, Tensor labels)
      : Numbers(7), samples{.pixels = std::move(pixels), .labels = std::move(labels)} {}
  ByteSamples bytes() const override { return samples; }
  ByteSamples samples;
};

}  // namespace

TEST_CASE("batches of resident samples have the bits of others, in every epoch, also after set_normalisation") {
  ImageDataset images = some_images(23);
  for (const bool shuffle : {false, true})
    for (const bool drop_last : {false, true}) {
      Loader plain(images, {.batch = 5, .shuffle = shuffle, .seed = 3, .drop_last = drop_last});
      Loader resident(
          images,
          {.batch = 5, .shuffle = shuffle, .seed = 3, .drop_last = drop_last, .prefetch = true, .resident = true});
      images.set_normalisation({});
      for (int epoch = 0; epoch < 3; ++epoch) {
        auto expected = plain.begin();
        for (const Batch& batch : resident) {
          CHECK(batch.index == expected->index);
          CHECK(batch.images.shape() == expected->images.shape());
          CHECK(batch.images.to_vector<float>() == expected->images.to_vector<float>());
          CHECK(batch.labels.to_vector<int64_t>() == expected->labels.to_vector<int64_t>());
          ++expected;
        }
        CHECK(expected == plain.end());
        images.set_normalisation({.mean = 0.3, .deviation = 0.2});
      }
    }
}

TEST_CASE("resident: a batch that is kept does not change, a copy walks by itself, and a position is taken up") {
  const ImageDataset images = some_images(12);
  Loader loader(images, {.batch = 4, .shuffle = true, .resident = true});
  std::vector<Tensor> kept;
  std::vector<std::vector<float>> seen;
  for (const Batch& batch : loader) {
    kept.push_back(batch.images);
    seen.push_back(batch.images.to_vector<float>());
  }
  Loader copy = loader;  // both are at epoch 1
  auto one = loader.begin();
  auto other = copy.begin();
  ++one;
  CHECK(other->index == 0);
  ++other;
  CHECK(one->images.to_vector<float>() == other->images.to_vector<float>());
  for (size_t i = 0; i < kept.size(); ++i) CHECK(kept[i].to_vector<float>() == seen[i]);

  loader.set_position({.seed = 0, .epoch = 0, .batch = 2});
  CHECK(loader.begin()->images.to_vector<float>() == seen[2]);
}

TEST_CASE("resident is refused for a data set that is not in memory as bytes") {
  const Numbers numbers(7);
  CHECK_THROWS_WITH_AS(Loader(numbers, {.resident = true}), doctest::Contains("in memory as bytes, as ImageDataset"),
                       ArgumentError);
}

TEST_CASE("resident is refused where the bytes are not the samples that the data set says it has") {
  const auto u8 = [](const Shape& shape) { return Tensor::zeros(shape, DType::u8); };
  const auto make = [](const Bytes& data) { Loader(data, {.resident = true}); };
  make(Bytes(u8({7, 2}), u8({7})));
  CHECK_THROWS_WITH_AS(make(Bytes(u8({6, 2}), u8({6}))),
                       "Loader: the data set has 7 samples of [2], but bytes of [6, 2] and labels [6]", ShapeError);
  CHECK_THROWS_AS(make(Bytes(u8({7, 3}), u8({7}))), ShapeError);
  CHECK_THROWS_AS(make(Bytes(u8({7, 2}), u8({8}))), ShapeError);
  CHECK_THROWS_AS(make(Bytes(u8({7, 2}), Tensor())), ShapeError);
  CHECK_THROWS_AS(make(Bytes(Tensor::zeros({7, 2}), u8({7}))), DTypeError);
  CHECK_THROWS_AS(make(Bytes(u8({7, 2}), Tensor::zeros({7}, DType::i64))), DTypeError);
}
