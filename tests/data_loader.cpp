// Loader: what it walks over, in which order, and what it refuses.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include <xent/core/error.h>
#include <xent/core/parallel.h>
#include <xent/core/step.h>
#include <xent/nn/image_dataset.h>
#include <xent/nn/loader.h>

#include "data_numbers.h"

using namespace xent;
using namespace data_numbers;

// ---- batches ----

TEST_CASE("batches carry samples, labels and an index; the last one has the rest") {
  const Numbers data(7);
  Loader loader(data, {.batch = 3});
  CHECK(loader.batches() == 3);
  std::vector<int64_t> sizes, indices;
  for (const Batch& batch : loader) {
    CHECK(batch.images.shape() == Shape{batch.size(), 2});
    CHECK(batch.images.dtype() == DType::f32);
    CHECK(batch.labels.shape() == Shape{batch.size()});
    CHECK(batch.labels.dtype() == DType::i64);
    const std::vector<int64_t> labels = batch.labels.to_vector<int64_t>();
    const std::vector<float> images = batch.images.to_vector<float>();
    for (size_t i = 0; i < labels.size(); ++i) {
      CHECK(images[2 * i] == static_cast<float>(labels[i] - 100));
      CHECK(images[2 * i + 1] == static_cast<float>(labels[i] - 100) + 0.5f);
    }
    sizes.push_back(batch.size());
    indices.push_back(batch.index);
  }
  CHECK(sizes == std::vector<int64_t>{3, 3, 1});
  CHECK(indices == std::vector<int64_t>{0, 1, 2});
}

TEST_CASE("without shuffle every epoch has the order of the data set") {
  const Numbers data(10);
  Loader loader(data, {.batch = 4});
  CHECK(walk(loader) == labels_in_order(10));
  CHECK(walk(loader) == labels_in_order(10));
}

TEST_CASE("a batch as large as the data set, or larger, is the data set") {
  const Numbers data(5);
  for (const int64_t size : {int64_t{5}, int64_t{6}, std::numeric_limits<int64_t>::max()}) {
    Loader loader(data, {.batch = size});
    CHECK(loader.batches() == 1);
    CHECK(walk(loader) == labels_in_order(5));
  }
}

TEST_CASE("drop_last leaves out a last batch that is not full, and only that") {
  const Numbers seven(7), six(6);
  Loader loader(seven, {.batch = 3, .drop_last = true});
  CHECK(loader.batches() == 2);
  CHECK(walk(loader) == labels_in_order(6));
  Loader even(six, {.batch = 3, .drop_last = true});
  CHECK(walk(even) == labels_in_order(6));
}

TEST_CASE("samples may be scalars, have no elements, or have seven axes") {
  struct Shaped : Dataset {
    Shape shape;
    explicit Shaped(const Shape& sample) : shape(sample) {}
    int64_t size() const override { return 3; }
    Shape sample_shape() const override { return shape; }
    int64_t get(int64_t index, std::span<float> sample) const override {
      std::ranges::fill(sample, 1.0f);
      return index;
    }
  };
  const Shaped scalar{Shape{}}, nothing{Shape{4, 0}}, deep{Shape{1, 1, 2, 1, 1, 1, 3}};
  Loader scalars(scalar, {.batch = 2}), nothings(nothing, {.batch = 2}), deeps(deep, {.batch = 2});
  CHECK(scalars.begin()->images.shape() == Shape{2});
  CHECK(nothings.begin()->images.shape() == Shape{2, 4, 0});
  CHECK(deeps.begin()->images.shape() == Shape{2, 1, 1, 2, 1, 1, 1, 3});
  const Shaped deepest{Shape{1, 1, 1, 1, 1, 1, 1, 1}};
  CHECK_THROWS_AS(Loader{deepest}, ShapeError);
}

TEST_CASE("a data set may gather a batch in its own way") {
  struct Bulk : Numbers {
    using Numbers::Numbers;
    void gather(std::span<const int64_t> indices, std::span<float> samples, std::span<int64_t> labels) const override {
      std::ranges::fill(samples, -1.0f);
      std::ranges::copy(indices, labels.begin());
    }
  };
  const Bulk data(4);
  Loader loader(data, {.batch = 4});
  CHECK(walk(loader) == std::vector<int64_t>{0, 1, 2, 3});
  CHECK(loader.begin()->images.to_vector<float>() == std::vector<float>(8, -1.0f));
}

// ---- order ----

TEST_CASE("shuffle walks over every sample once, in another order every epoch") {
  const Numbers data(100);
  Loader loader(data, {.batch = 8, .shuffle = true, .seed = 1});
  std::vector<std::vector<int64_t>> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    epochs.push_back(walk(loader));
    std::vector<int64_t> sorted = epochs.back();
    std::ranges::sort(sorted);
    CHECK(sorted == labels_in_order(100));
    CHECK(epochs.back() != sorted);
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[0] != epochs[2]);
  CHECK(epochs[1] != epochs[2]);
}

TEST_CASE("every order of three samples comes up about equally often") {
  const Numbers data(3);
  Loader loader(data, {.batch = 3, .shuffle = true, .seed = 9});
  std::vector<int> count(1000);
  for (int epoch = 0; epoch < 6000; ++epoch) {
    const int64_t* labels = loader.begin()->labels.data<int64_t>();
    ++count[static_cast<size_t>((labels[0] - 100) * 100 + (labels[1] - 100) * 10 + labels[2] - 100)];
  }
  for (const size_t order : {12u, 21u, 102u, 120u, 201u, 210u})
    CHECK(std::abs(count[order] - 1000) < 150);  // 5 deviations
}

TEST_CASE("the order depends on seed and epoch only") {
  const Numbers data(50);
  Loader a(data, {.batch = 8, .shuffle = true, .seed = 1}), b(data, {.batch = 7, .shuffle = true, .seed = 1});
  Loader other(data, {.batch = 8, .shuffle = true, .seed = 2});
  const std::vector<int64_t> first = walk(a), second = walk(a);
  CHECK(walk(b) == first);
  CHECK(walk(other) != first);
  b.set_epoch(1);
  CHECK(walk(b) == second);
  b.set_epoch(0);
  CHECK(walk(b) == first);
}

TEST_CASE("a loop that is left early has had its epoch") {
  const Numbers data(50);
  Loader whole(data, {.batch = 8, .shuffle = true}), broken(data, {.batch = 8, .shuffle = true});
  walk(whole);
  for ([[maybe_unused]] const Batch& batch : broken) break;
  CHECK(walk(broken) == walk(whole));
}

TEST_CASE("the position is that of the epoch in a loop's body, and of what the next loop hands out outside") {
  const Numbers data(6);
  Loader loader(data, {.batch = 2, .seed = 9});
  const auto at = [&](int64_t epoch, int64_t batch) { return loader.position() == Loader::Position{9, epoch, batch}; };
  for (const Batch& batch : loader) {
    CHECK(at(batch.index == 2, batch.index == 2 ? 0 : batch.index + 1));
    CHECK(loader.epoch() == (batch.index == 2));
  }
  CHECK(at(1, 0));
  for ([[maybe_unused]] const Batch& batch : loader) break;
  CHECK(at(2, 0));  // not the rest of epoch 1
  CHECK(walk(loader) == labels_in_order(6));
  loader.set_position({9, 4, 1});
  CHECK(at(4, 1));
  for ([[maybe_unused]] const Batch& batch : loader) break;
  CHECK(at(5, 0));
  CHECK(walk(loader) == labels_in_order(6));
}

TEST_CASE("iterators that are kept keep their loop, until another begins") {
  const Numbers data(6);
  Loader loader(data, {.batch = 2});
  std::optional<Loader::Iterator> kept(loader.begin());
  std::optional<Loader::Iterator> copy(*kept);
  kept.reset();
  CHECK(loader.position() == Loader::Position{0, 0, 1});
  loader.begin();  // and is over at once
  CHECK(loader.position() == Loader::Position{0, 2, 0});
  CHECK_THROWS_AS(++*copy, ArgumentError);
  Loader other(data, {.batch = 3});
  copy.emplace(other.begin());
  other = loader;
  CHECK(other.position() == loader.position());
  CHECK_THROWS_AS(++*copy, ArgumentError);
}

TEST_CASE("a copy made in a loop is not in it") {
  const Numbers data(6);
  Loader loader(data, {.batch = 2});
  const Loader::Iterator at = loader.begin();
  Loader copy = loader;
  CHECK(copy.position() == Loader::Position{0, 1, 0});
  CHECK(walk(copy) == labels_in_order(6));
  CHECK(loader.position() == Loader::Position{0, 0, 1});
}

TEST_CASE("epoch counts loops, and going on from a saved epoch is seamless") {
  const Numbers data(20);
  Loader loader(data, {.batch = 8, .shuffle = true, .seed = 3});
  CHECK(loader.epoch() == 0);
  walk(loader);
  CHECK(loader.epoch() == 1);
  const int64_t saved = loader.epoch();
  Loader restarted(data, {.batch = 8, .shuffle = true, .seed = 3});
  restarted.set_epoch(saved);
  CHECK(walk(restarted) == walk(loader));
  CHECK_THROWS_AS(loader.set_epoch(-1), ArgumentError);
}

TEST_CASE("batches have the same bits for any number of threads") {
  std::vector<uint8_t> pixels(300 * 40 * 30);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  ImageDataset data(Tensor::from(pixels, {300, 40, 30}), Tensor::zeros({300}, DType::u8), 1);
  data.set_normalisation({0.3, 0.7});
  const auto bits_with = [&](int count) {
    const Threads used(count);
    Loader loader(data, {.batch = 128, .shuffle = true, .seed = 4});
    std::vector<float> bits;
    for (const Batch& batch : loader)
      for (const float value : batch.images.to_vector<float>()) bits.push_back(value);
    return bits;
  };
  const std::vector<float> expected = bits_with(1);
  CHECK(expected.size() == pixels.size());
  CHECK(bits_with(2) == expected);
  CHECK(bits_with(3) == expected);
}

// ---- errors ----

TEST_CASE("options that make no batch are refused") {
  const Numbers none(0), five(5);
  CHECK_THROWS_WITH_AS(Loader{none}, "Loader: the data set has 0 samples; there is nothing to load", ArgumentError);
  CHECK_THROWS_AS(Loader(five, {.batch = 0}), ArgumentError);
  CHECK_THROWS_AS(Loader(five, {.batch = -1}), ArgumentError);
  CHECK_THROWS_WITH_AS(Loader(five, {.batch = 6, .drop_last = true}),
                       "Loader: drop_last leaves no batch of 6: the data set has 5 samples", ArgumentError);
}

TEST_CASE("a size that memory cannot hold is an Error") {
  for (const int64_t size : {int64_t{1} << 62, std::numeric_limits<int64_t>::max()}) {
    const Numbers numbers(size);
    CHECK_THROWS_WITH_AS(Loader{numbers}, doctest::Contains("Loader: no memory for the order of"), DeviceError);
  }
}

TEST_CASE("a temporary data set does not compile: it would not outlive the loader") {
  CHECK_FALSE(std::is_constructible_v<Loader, Numbers, LoaderOptions>);
  CHECK(std::is_constructible_v<Loader, Numbers&, LoaderOptions>);
}

TEST_CASE("an exception inside get arrives at the loop, and the next epoch is whole again") {
  for (const int count : {1, 3}) {
    const Threads used(count);
    Numbers data(300, 784);
    Loader loader(data, {.batch = 150});
    data.broken = 200;
    std::optional<int64_t> last;
    const auto loop = [&] {
      for (const Batch& batch : loader) last = batch.index;
    };
    CHECK_THROWS_WITH_AS(loop(), "sample is broken", std::domain_error);
    CHECK(last == 0);
    data.broken = -1;
    CHECK(walk(loader) == labels_in_order(300));
  }
}

TEST_CASE("two loops over one loader are told apart") {
  const Numbers data(6);
  Loader loader(data, {.batch = 2});
  const auto nested = [&] {
    for ([[maybe_unused]] const Batch& outer : loader) walk(loader);
  };
  CHECK_THROWS_AS(nested(), ArgumentError);
}

TEST_CASE("a step past the end is an error, not another batch") {
  const Numbers data(2);
  Loader loader(data, {.batch = 2});
  Loader::Iterator at = loader.begin();
  ++at;
  CHECK(at == loader.end());
  CHECK_THROWS_AS(++at, ArgumentError);
}

TEST_CASE("a device that this machine has not is refused") {
  const Numbers data(2);
  Loader loader(data, {.device = Device::cuda(99)});
  CHECK_THROWS_AS(loader.begin(), DeviceError);
}

TEST_CASE("a loop inside a Step is refused") {
  const Numbers data(4);
  Loader loader(data, {.batch = 2});
  Step step([&](const Tensor& x) {
    loader.begin();
    return x;
  });
  const Tensor x = Tensor::zeros({1});
  CHECK_THROWS_AS(step(x), ReplayError);
  walk(loader);
  CHECK_THROWS_AS(step(x), ReplayError);
}
