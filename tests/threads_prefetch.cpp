// Loaders that prefetch, beside each other and beside kernels: for ThreadSanitizer.
#include <stdexcept>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "data_numbers.h"

using namespace xent;
using namespace data_numbers;

namespace {

const LoaderOptions ahead{.batch = 16, .shuffle = true, .seed = 1, .prefetch = true};

// Trains one epoch and returns every parameter.
std::vector<std::vector<float>> train(bool prefetch, int count) {
  const Threads used(count);
  const ImageDataset data = generated_digits(200, 1);
  Loader batches(data, {.batch = 32, .shuffle = true, .seed = 1, .prefetch = prefetch});
  Generator random(1);
  Sequential model(Flatten(), Linear(784, 32, random, Activation::relu), Linear(32, 10, random));
  Adam optimizer(model.parameters());
  Step step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);
    optimizer.step(tape.backward(loss));
    return loss;
  });
  for (const Batch& batch : batches) step(batch.images, batch.labels);
  std::vector<std::vector<float>> weights;
  for (const Parameter& parameter : model.parameters()) weights.push_back(parameter.value.to_vector<float>());
  return weights;
}

}  // namespace

TEST_CASE("training gives the same weights with prefetch and without, for 1, 2 and 3 threads") {
  const auto expected = train(false, 1);
  for (const int count : {1, 2, 3}) CHECK(train(true, count) == expected);
}

TEST_CASE("loops that are left at any batch, in any way, leave the loader whole") {
  Numbers data(100, 3);
  Loader loader(data, ahead), plain(data, {.batch = 16, .shuffle = true, .seed = 1});
  for (int64_t leave = 0; leave < 7; ++leave)
    for (int way = 0; way < 5; ++way) {
      data.broken = way == 3 ? 50 : -1;
      try {
        for (const Batch& batch : loader)
          if (batch.index == leave) {
            if (way == 0) break;
            if (way == 1) throw std::domain_error("the step failed");
            if (way == 2) loader.set_position({3, 2, leave});
            if (way == 4) loader = Loader(data, ahead);
          }
      } catch (const Error&) {  // a loop whose position was set
      } catch (const std::domain_error&) {
      }
      data.broken = -1;
      loader.set_position({1, leave, 0});
      plain.set_position({1, leave, 0});
      CHECK(walk(loader) == walk(plain));
    }
}

TEST_CASE("two threads walk over one data set with a loader each, while a third computes") {
  const Threads used(2);
  const Numbers data(300, 20);
  const std::vector<int64_t> expected = [&] {
    Loader plain(data, {.batch = 16, .shuffle = true, .seed = 1});
    return walk(plain);
  }();
  std::atomic<int> wrong = 0;
  const auto walk_often = [&] {
    for (int i = 0; i < 10; ++i) {
      Loader loader(data, ahead);
      if (walk(loader) != expected) ++wrong;
    }
  };
  std::thread first(walk_often), second(walk_often);
  std::vector<int64_t> sums(64);
  for (int i = 0; i < 50; ++i)
    parallel_for(64, 4, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) sums[static_cast<size_t>(k)] += k;
    });
  first.join();
  second.join();
  CHECK(wrong == 0);
  CHECK(sums[63] == 50 * 63);
}

TEST_CASE("loaders that are made, begun and destroyed at once leave nothing behind") {
  const Numbers data(64, 50);
  for (int i = 0; i < 50; ++i) {
    Loader loader(data, ahead);
    if (i % 3 > 0) loader.begin();
    if (i % 3 > 1) {
      Loader copy = loader;
      copy.begin();
    }
  }
  Loader loader(data, ahead);
  CHECK(walk(loader).size() == 64);
}

TEST_CASE("a batch that another thread reads is left alone until it lets go") {
  const Numbers data(160, 4);
  Loader loader(data, ahead);
  std::vector<std::thread> readers;
  std::atomic<int> wrong = 0;
  for (const Batch& batch : loader)
    readers.emplace_back([&wrong, kept = batch] {
      const std::vector<int64_t> labels = kept.labels.to_vector<int64_t>();
      const std::vector<float> images = kept.images.to_vector<float>();
      for (size_t i = 0; i < labels.size(); ++i)
        if (images[4 * i] != static_cast<float>(labels[i] - 100)) ++wrong;
    });
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}
