// Training as a user does it: it learns, it takes no memory once it is warm, and an error leaves it usable.
#include <cmath>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "count_allocations.h"

using namespace xent;

namespace {

struct Trainer {
  Generator random{1};
  Sequential model{Flatten(), Linear(784, 32, random, Activation::relu), Linear(32, 10, random)};
  Adam optimizer{model.parameters()};
  Mean mean_loss;
  Accuracy accuracy;
};

}  // namespace

TEST_CASE("a training step after the third of its shape takes no allocation, loader included") {
  const ImageDataset data = generated_digits(320, 1);
  Loader batches(data, {.batch = 32, .shuffle = true, .seed = 1});
  Trainer t;
  Step step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor logits = t.model(images);
    Tensor loss = softmax_cross_entropy(logits, labels);
    t.optimizer.step(tape.backward(loss));
    t.mean_loss.add(loss, labels.elements());
    t.accuracy.add(logits, labels);
    return loss;
  });
  double last = 0;
  uint64_t taken = 0, requested = 0;
  int warm_steps = 0, steps = 0;
  for (int epoch = 0; epoch < 3; ++epoch)
    for (Loader::Iterator at = batches.begin(); at != batches.end();) {
      const uint64_t allocations_before = allocations, requests_before = memory_stats().requests;
      last = step(at->images, at->labels).item();
      ++at;                        // loads the next batch
      if (++steps <= 3) continue;  // run, recorded, replayed
      taken += allocations - allocations_before;
      requested += memory_stats().requests - requests_before;
      ++warm_steps;
    }
  CHECK(warm_steps == 27);
  CHECK(taken == 0);
  CHECK(requested == 0);
  CHECK(std::isfinite(last));
}

TEST_CASE("the counter counts") {
  const uint64_t before = allocations;
  const std::vector<int> some(100);
  CHECK(allocations > before);
  CHECK(some.size() == 100);
}

TEST_CASE("an MLP learns generated digits") {
  const ImageDataset data = generated_digits(2000, 1), unseen = generated_digits(500, 2);
  Loader batches(data, {.batch = 50, .shuffle = true, .seed = 1}), test(unseen, {.batch = 100});
  Trainer t;
  Step step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(t.model(images), labels);
    t.optimizer.step(tape.backward(loss));
    return loss;
  });
  double first = -1;
  for (int epoch = 0; epoch < 15; ++epoch)
    for (const Batch& batch : batches) {
      const double loss = step(batch.images, batch.labels).item();
      if (first < 0) first = loss;
    }
  CHECK(std::abs(first - std::log(10.0)) < 0.3);
  for (const Batch& batch : test) t.accuracy.add(t.model(batch.images), batch.labels);
  CHECK(t.accuracy.value() > 0.8);
}

TEST_CASE(
    "after a label out of range inside a replayed step the next call works, and gives the bits it would have given") {
  const Tensor images = Tensor::full({4, 784}, 0.25);
  const Tensor good = Tensor::from<int64_t>({0, 1, 2, 3}, {4}), bad = Tensor::from<int64_t>({0, 1, 2, 10}, {4});
  const auto run = [&](int bad_call) {
    Trainer t;
    Step step([&](const Tensor& x, const Tensor& y) {
      Tape tape;
      Tensor loss = softmax_cross_entropy(t.model(x), y);
      t.optimizer.step(tape.backward(loss));
      return loss;
    });
    std::vector<double> losses;
    for (int call = 0; call < 6; ++call) {
      if (call == bad_call) CHECK_THROWS_AS(step(images, bad), LabelError);
      losses.push_back(step(images, good).item());
    }
    return losses;
  };
  const std::vector<double> undisturbed = run(-1);
  for (int bad_call = 0; bad_call < 6; ++bad_call) CHECK(run(bad_call) == undisturbed);
}
