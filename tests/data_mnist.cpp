// ImageDataset, and load_mnist with the folders it reads.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>

#include <xent/core/error.h>
#include <xent/nn/mnist.h>

#include "data_files.h"

using namespace xent;
using namespace data_files;

namespace {

ImageDataset two_images() {
  return ImageDataset(Tensor::from<uint8_t>({0, 51, 102, 255, 10, 20, 30, 40}, {2, 2, 2}),
                      Tensor::from<uint8_t>({3, 1}, {2}), 4);
}

std::vector<float> sample_of(const Dataset& data, int64_t index) {
  std::vector<float> sample(static_cast<size_t>(data.sample_shape().elements()));
  data.get(index, sample);
  return sample;
}

const std::vector<uint8_t> images_file = idx(0x08, {2, 1, 3}, {0, 255, 51, 1, 2, 3});
const std::vector<uint8_t> labels_file = idx(0x08, {2}, {7, 9});

std::string load_error(const std::string& folder, Split split = Split::train) {
  return error_of<FormatError>([&] { load_mnist(folder, split); });
}

}  // namespace

TEST_CASE("images come as floats of 0 to 1 with a channel axis, labels as they are") {
  const ImageDataset data = two_images();
  CHECK(data.size() == 2);
  CHECK(data.classes() == 4);
  CHECK(data.sample_shape() == Shape{2, 2, 1});
  std::array<float, 4> sample;
  CHECK(data.get(0, sample) == 3);
  for (size_t i = 0; i < 4; ++i) CHECK(std::abs(sample[i] - std::array{0.0f, 0.2f, 0.4f, 1.0f}[i]) < 1e-7f);
  CHECK(sample[3] == 1);
  CHECK(data.get(1, sample) == 1);
}

TEST_CASE("images may bring channels of their own") {
  const ImageDataset data(Tensor::zeros({5, 4, 3, 2}, DType::u8), Tensor::zeros({5}, DType::u8), 1);
  CHECK(data.sample_shape() == Shape{4, 3, 2});
}

TEST_CASE("normalisation takes the mean off and divides by the deviation") {
  ImageDataset data = two_images();
  data.set_normalisation({0.25, 0.5});
  CHECK(data.normalisation() == Normalisation{0.25, 0.5});
  const std::vector<float> sample = sample_of(data, 0);
  for (size_t i = 0; i < 4; ++i) {
    const double pixel = std::array{0.0, 51.0, 102.0, 255.0}[i];
    CHECK(std::abs(sample[i] - (pixel / 255 - 0.25) / 0.5) < 1e-6);
  }
}

TEST_CASE("with the normalisation of its own images a data set has mean 0 and deviation 1") {
  ImageDataset data = two_images();
  const Normalisation own = normalisation_of(data);
  CHECK(own.mean == doctest::Approx((0 + 51 + 102 + 255 + 10 + 20 + 30 + 40) / 8.0 / 255).epsilon(1e-12));
  data.set_normalisation(own);
  double sum = 0, squares = 0;
  for (int64_t index = 0; index < 2; ++index)
    for (const double value : sample_of(data, index)) {
      sum += value;
      squares += value * value;
    }
  CHECK(std::abs(sum / 8) < 1e-6);
  CHECK(std::abs(squares / 8 - 1) < 1e-6);
}

TEST_CASE("images of one grey have deviation 1, so that their normalisation can be set") {
  ImageDataset data(Tensor::full({3, 2, 2}, 51, DType::u8), Tensor::zeros({3}, DType::u8), 1);
  CHECK(normalisation_of(data) == Normalisation{0.2, 1});
  data.set_normalisation(normalisation_of(data));
  CHECK(std::abs(sample_of(data, 0)[0]) < 1e-6);
}

TEST_CASE("a normalisation that gives no numbers is refused and changes nothing") {
  ImageDataset data = two_images();
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const Normalisation bad :
       {Normalisation{0, 0}, {0, -1}, {0, nan}, {nan, 1}, {infinity, 1}, {0, 1e-300}, {1e300, 1}})
    CHECK_THROWS_AS(data.set_normalisation(bad), ArgumentError);
  CHECK(data.normalisation() == Normalisation{});
  CHECK(sample_of(data, 0)[3] == 1);
}

TEST_CASE("images and labels that do not fit are refused") {
  const Tensor images = Tensor::zeros({2, 3, 3}, DType::u8), labels = Tensor::zeros({2}, DType::u8);
  CHECK_THROWS_AS(ImageDataset(images, Tensor::zeros({3}, DType::u8), 1), ShapeError);
  CHECK_THROWS_AS(ImageDataset(images, Tensor::zeros({2, 1}, DType::u8), 1), ShapeError);
  CHECK_THROWS_AS(ImageDataset(Tensor::zeros({2, 9}, DType::u8), labels, 1), ShapeError);
  CHECK_THROWS_AS(ImageDataset(Tensor(), Tensor(), 1), ShapeError);
  CHECK_THROWS_AS(ImageDataset(Tensor::zeros({2, 3, 3}), labels, 1), DTypeError);
  CHECK_THROWS_AS(ImageDataset(images, Tensor::zeros({2}, DType::i64), 1), DTypeError);
  CHECK_THROWS_AS(ImageDataset(Tensor::zeros({0, 3, 3}, DType::u8), Tensor::zeros({0}, DType::u8), 1), ArgumentError);
  CHECK_THROWS_AS(ImageDataset(Tensor::zeros({2, 3, 0}, DType::u8), labels, 1), ArgumentError);
}

TEST_CASE("a label outside the classes is named with its sample") {
  const std::string text = error_of<LabelError>([] {
    ImageDataset(Tensor::zeros({3, 1, 1}, DType::u8), Tensor::from<uint8_t>({0, 3, 4}, {3}), 3);
  });
  CHECK(contains(text, "sample 1: label 3 is not in [0, 3)"));
}

TEST_CASE("a sample that is not there, or that does not fit, is refused") {
  const ImageDataset data = two_images();
  std::array<float, 5> sample;
  CHECK_THROWS_AS(data.get(2, std::span(sample).first(4)), ArgumentError);
  CHECK_THROWS_AS(data.get(-1, std::span(sample).first(4)), ArgumentError);
  CHECK_THROWS_AS(data.get(0, sample), ShapeError);
}

TEST_CASE("gather refuses spans of the wrong size, and a sample that is not there") {
  const ImageDataset data = two_images();
  const std::array<int64_t, 2> indices = {1, 0}, beyond = {0, 2};
  std::array<float, 8> samples;
  std::array<int64_t, 2> labels;
  data.gather(indices, samples, labels);
  CHECK(labels == std::array<int64_t, 2>{1, 3});
  CHECK(samples[7] == 1);
  CHECK_THROWS_AS(data.gather(indices, std::span(samples).first(7), labels), ShapeError);
  CHECK_THROWS_AS(data.gather(indices, samples, std::span(labels).first(1)), ShapeError);
  CHECK_THROWS_AS(data.gather(beyond, samples, labels), ArgumentError);
}

TEST_CASE("a split is read from its two files, gzipped or not") {
  const Folder folder;
  folder.write("train-images-idx3-ubyte", images_file);
  folder.write_gzip("train-labels-idx1-ubyte.gz", labels_file);
  folder.write_gzip("t10k-images-idx3-ubyte.gz", idx(0x08, {1, 1, 3}, {9, 9, 9}));
  folder.write("t10k-labels-idx1-ubyte", idx(0x08, {1}, {5}));
  const ImageDataset train = load_mnist(folder.path(), Split::train);
  CHECK(train.size() == 2);
  CHECK(train.classes() == 10);
  CHECK(train.sample_shape() == Shape{1, 3, 1});
  CHECK(train.labels().to_vector<uint8_t>() == std::vector<uint8_t>{7, 9});
  CHECK(sample_of(train, 1)[2] > sample_of(train, 1)[1]);
  CHECK(sample_of(train, 0)[1] == 1);
  CHECK(load_mnist(folder.path(), Split::test).labels().to_vector<uint8_t>() == std::vector<uint8_t>{5});
}

TEST_CASE("a folder that is not there is named, with what it should hold") {
  const Folder folder;
  const std::string text = load_error(folder.file("missing"));
  CHECK(contains(text, folder.file("missing")));
  CHECK(contains(text, "no folder"));
  CHECK(contains(text, "train-images-idx3-ubyte"));
}

TEST_CASE("a missing file is named, with both names it may have") {
  const Folder folder;
  folder.write("t10k-images-idx3-ubyte", images_file);
  const std::string text = load_error(folder.path(), Split::test);
  CHECK(contains(text, folder.path()));
  CHECK(contains(text, "t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"));
}

TEST_CASE("files that are no data set together are named, with the reason") {
  const Folder folder;
  const auto error_with = [&](const std::vector<uint8_t>& images, const std::vector<uint8_t>& labels) {
    const std::string image_path = folder.write("train-images-idx3-ubyte", images);
    const std::string label_path = folder.write("train-labels-idx1-ubyte", labels);
    const std::string text = load_error(folder.path());
    CHECK(contains(text, image_path));
    CHECK(contains(text, label_path));
    return text;
  };
  CHECK(contains(error_with(images_file, idx(0x08, {3}, {1, 2, 3})), "images are [2, 1, 3], but labels [3]"));
  CHECK(contains(error_with(images_file, idx(0x08, {2}, {1, 10})), "sample 1: label 10 is not in [0, 10)"));
  CHECK(contains(error_with(idx(0x08, {0, 28, 28}, {}), idx(0x08, {0}, {})), "no pixels"));
  CHECK(contains(error_with(labels_file, images_file), "images are [2]"));
  CHECK(contains(error_with(images_file, idx(0x0C, {2}, {0, 0, 0, 1, 0, 0, 0, 2})), "labels are i32"));
}

TEST_CASE("a damaged file is named") {
  const Folder folder;
  const std::string path = folder.write("train-images-idx3-ubyte", idx(0x08, {3, 1, 3}, {1, 2, 3}));
  folder.write("train-labels-idx1-ubyte", labels_file);
  CHECK(contains(load_error(folder.path()), path));
}

// Runs where Debian's package is installed.
TEST_CASE("the installed Fashion-MNIST has its published size, balance and statistics" *
          doctest::skip(find_fashion_mnist().empty())) {
  const ImageDataset train = load_mnist(find_fashion_mnist(), Split::train),
                     test = load_mnist(find_fashion_mnist(), Split::test);
  CHECK(train.size() == 60000);
  CHECK(test.size() == 10000);
  CHECK(train.sample_shape() == Shape{28, 28, 1});
  std::array<int, 10> of_class{};
  for (const uint8_t label : train.labels().to_vector<uint8_t>()) ++of_class[label];
  for (const int count : of_class) CHECK(count == 6000);
  const Normalisation normalisation = normalisation_of(train);
  CHECK(std::abs(normalisation.mean - 0.2860) < 5e-5);
  CHECK(std::abs(normalisation.deviation - 0.3530) < 5e-5);
}
