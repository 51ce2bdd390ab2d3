// A small convolutional network trained inside a Step as a user does it: the same bits however it runs, no
// memory and no page fault once it is warm, and it learns.
#include <sys/resource.h>

#include <cmath>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "count_allocations.h"
#include "replay_mode.h"

using namespace xent;

namespace {

const ImageDataset& digits() {
  static const ImageDataset data = generated_digits(320, 1);
  return data;
}

int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

struct Trainer {
  Generator random{1};
  Sequential model{
      Conv2d(1, 8, 3, random, {.padding = 1}), BatchNorm2d(8), Relu(), MaxPool2d(2), Flatten(), Dropout(0.25, random),
      Linear(14 * 14 * 8, 10, random)};
  Adam optimizer{model.parameters()};
  // The warm-up ends within three steps: the code of the cosine is a page of its own, and its first use a fault.
  Schedule schedule{optimizer, {.decay = Decay::cosine, .warmup = 1, .steps = 40}};

  Tensor step(const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);
    Gradients gradients = tape.backward(loss);
    clip_gradients(gradients, 1.0);
    optimizer.step(gradients);
    schedule.step();
    return loss;
  }
};

// The losses of one epoch, and everything that it left: parameters, running statistics, moments, counts, rates.
std::vector<std::vector<double>> train(int thread_count, Replay replay, int epochs = 1) {
  const Mode mode(replay);
  set_threads(thread_count);
  Loader batches(digits(), {.batch = 32, .shuffle = true, .seed = 1});
  Trainer t;
  Step step([&](const Tensor& images, const Tensor& labels) { return t.step(images, labels); });
  std::vector<std::vector<double>> bits(1);
  for (int epoch = 0; epoch < epochs; ++epoch)
    for (const Batch& batch : batches) bits[0].push_back(step(batch.images, batch.labels).item());
  for (const auto& list : {t.model.state(), t.optimizer.state(), t.schedule.state()})
    for (const NamedTensor& part : list) bits.push_back(cast(part.value, DType::f64).to_vector<double>());
  return bits;
}

}  // namespace

TEST_CASE("an epoch of a CNN gives the same bits eager, replayed and verified, for 1, 2 and 3 threads") {
  const int before = threads();
  const auto expected = train(1, Replay::off);
  for (const int count : {1, 2, 3})
    for (const Replay replay : {Replay::off, Replay::on, Replay::verify}) {
      CAPTURE(count);
      CAPTURE(static_cast<int>(replay));
      CHECK(train(count, replay) == expected);
    }
  set_threads(before);
}

TEST_CASE(
    "from the fourth step on a CNN takes no allocation, no request to the cache and, on one thread, hardly a page "
    "fault") {
  const Mode mode(Replay::on);
  const int before = threads();
  for (const int count : {1, 2}) {  // a worker's own stack is touched first when it gets a chunk, which may be late
    CAPTURE(count);
    set_threads(count);
    Loader batches(digits(), {.batch = 32, .shuffle = true, .seed = 1});
    Trainer t;
    Step step([&](const Tensor& images, const Tensor& labels) { return t.step(images, labels); });
    uint64_t taken = 0, requested = 0;
    int steps = 0, with_faults = 0;
    for (int epoch = 0; epoch < 2; ++epoch)
      for (Loader::Iterator at = batches.begin(); at != batches.end();) {
        if (++steps == 4) taken = requested = 0, with_faults = 0;  // run, recorded, replayed; counted from here on
        const uint64_t allocations_before = allocations, requests_before = memory_stats().requests;
        const int64_t faults_before = page_faults();
        step(at->images, at->labels);
        ++at;
        with_faults += page_faults() > faults_before;
        requested += memory_stats().requests - requests_before;
        taken += allocations - allocations_before;
      }
    CHECK(steps == 20);
    CHECK(taken == 0);
    CHECK(requested == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their shadow memory has faults of its own
    // Memory that a step takes would be touched first in every one. A system that is short of it takes pages back now
    // and then, and they are fetched again.
    if (count == 1) CHECK(with_faults <= 2);
#endif
  }
  set_threads(before);
}

TEST_CASE("the counter counts") {
  const uint64_t before = allocations;
  const std::vector<int> some(100);
  CHECK(allocations > before);
  CHECK(some.size() == 100);
}

TEST_CASE("the loss of a CNN starts near ln 10 and falls") {
  const std::vector<double> losses = train(threads(), replay(), 4)[0];
  CHECK(std::abs(losses[0] - std::log(10.0)) < 0.2);
  CHECK(losses.back() < losses[0] - 0.5);
}
