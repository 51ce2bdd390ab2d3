// Generated digits: the same everywhere, balanced, and worth learning.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <xent/core/error.h>
#include <xent/core/parallel.h>
#include <xent/nn/digits.h>

using namespace xent;

namespace {

std::vector<uint8_t> pixels_of(const ImageDataset& data) { return data.images().to_vector<uint8_t>(); }
std::vector<uint8_t> labels_of(const ImageDataset& data) { return data.labels().to_vector<uint8_t>(); }

// The part of `test` that is nearest to the mean image of its class in `train`.
double nearest_mean_accuracy(const ImageDataset& train, const ImageDataset& test) {
  std::vector<std::array<double, 784>> means(10);
  std::array<float, 784> sample;
  for (int64_t i = 0; i < train.size(); ++i) {
    auto& mean = means[static_cast<size_t>(train.get(i, sample))];
    for (size_t p = 0; p < 784; ++p) mean[p] += sample[p] / (static_cast<double>(train.size()) / 10);
  }
  int64_t right = 0;
  for (int64_t i = 0; i < test.size(); ++i) {
    const auto label = static_cast<size_t>(test.get(i, sample));
    size_t nearest = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t digit = 0; digit < 10; ++digit) {
      double distance = 0;
      for (size_t p = 0; p < 784; ++p) distance += (sample[p] - means[digit][p]) * (sample[p] - means[digit][p]);
      if (distance < least) {
        least = distance;
        nearest = digit;
      }
    }
    right += nearest == label;
  }
  return static_cast<double>(right) / static_cast<double>(test.size());
}

}  // namespace

TEST_CASE("digits are images of 28 x 28 pixels in ten classes") {
  const ImageDataset data = generated_digits(30, 1);
  CHECK(data.size() == 30);
  CHECK(data.sample_shape() == Shape{28, 28, 1});
  CHECK(data.classes() == 10);
}

TEST_CASE("the same seed gives the same digits, for any number of threads") {
  const int before = threads();
  set_threads(1);
  const ImageDataset expected = generated_digits(203, 5);
  for (const int count : {2, 3}) {
    set_threads(count);
    const ImageDataset again = generated_digits(203, 5);
    CHECK(pixels_of(again) == pixels_of(expected));
    CHECK(labels_of(again) == labels_of(expected));
  }
  set_threads(before);
}

TEST_CASE("a digit does not depend on how many are made") {
  const std::vector<uint8_t> few = pixels_of(generated_digits(17, 5)), many = pixels_of(generated_digits(40, 5));
  CHECK(std::ranges::equal(few, std::span(many).first(few.size())));
}

TEST_CASE("another seed gives other digits in another order") {
  const ImageDataset a = generated_digits(100, 1), b = generated_digits(100, 2);
  CHECK(pixels_of(a) != pixels_of(b));
  CHECK(labels_of(a) != labels_of(b));
}

TEST_CASE("no two images are the same") {
  const std::vector<uint8_t> pixels = pixels_of(generated_digits(500, 3));
  const std::string bytes(pixels.begin(), pixels.end());
  std::set<std::string> images;
  for (size_t i = 0; i < 500; ++i) images.insert(bytes.substr(784 * i, 784));
  CHECK(images.size() == 500);
}

TEST_CASE("every ten images in a row show each digit once, in changing order") {
  std::vector<uint8_t> labels = labels_of(generated_digits(200, 4));
  CHECK_FALSE(std::ranges::equal(std::span(labels).first(10), std::span(labels).subspan(10, 10)));
  for (size_t first = 0; first < labels.size(); first += 10) {
    const auto ten = std::span(labels).subspan(first, 10);
    std::ranges::sort(ten);
    CHECK(std::ranges::equal(ten, std::array<uint8_t, 10>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  }
}

TEST_CASE("the mean image of each class tells most digits, but not all") {
  const double accuracy = nearest_mean_accuracy(generated_digits(2000, 1), generated_digits(500, 2));
  CHECK(accuracy > 0.5);
  CHECK(accuracy < 0.95);
}

TEST_CASE("no digits are refused") {
  CHECK_THROWS_AS(generated_digits(0, 1), ArgumentError);
  CHECK_THROWS_AS(generated_digits(-3, 1), ArgumentError);
}
