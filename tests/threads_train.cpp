// Training gives the same bits whatever runs it: any number of threads, eager or replayed, alone or beside another
// model.
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include <xent/xent.h>

using namespace xent;

namespace {

using Weights = std::vector<std::vector<float>>;

const ImageDataset& digits() {
  static const ImageDataset data = generated_digits(400, 1);
  return data;
}

// Trains one epoch and returns every parameter.
Weights train(uint64_t seed) {
  Loader batches(digits(), {.batch = 32, .shuffle = true, .seed = seed});
  Generator random(seed);
  Sequential model(Flatten(), Linear(784, 64, random, Activation::relu), Linear(64, 10, random));
  Adam optimizer(model.parameters());
  Mean mean_loss;
  Step step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);
    optimizer.step(tape.backward(loss));
    mean_loss.add(loss, labels.elements());
    return loss;
  });
  for (const Batch& batch : batches) step(batch.images, batch.labels);
  Weights weights = {{static_cast<float>(mean_loss.value())}};
  for (const Parameter& parameter : model.parameters()) weights.push_back(parameter.value.to_vector<float>());
  return weights;
}

}  // namespace

TEST_CASE("one epoch gives the same weights for 1, 2 and 3 threads") {
  set_threads(1);
  const Weights one = train(1);
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(train(1) == one);
  }
  CHECK(train(2) != one);
}

TEST_CASE("one epoch gives the same weights with replay on, off and verified") {
  set_threads(2);
  set_replay(Replay::on);
  const Weights replayed = train(1);
  for (const Replay mode : {Replay::off, Replay::verify}) {
    set_replay(mode);
    CHECK(train(1) == replayed);
  }
  set_replay(Replay::on);
}

TEST_CASE("two threads that train two models give the bits of one after the other") {
  set_threads(2);
  const Weights first = train(1), second = train(2);
  Weights beside_first, beside_second;
  std::thread other([&] { beside_second = train(2); });
  beside_first = train(1);
  other.join();
  CHECK(beside_first == first);
  CHECK(beside_second == second);
}
