// Trains twice: two epochs in one go, and one epoch, a checkpoint, and one more with objects that know nothing of the
// first. Both end with the same bytes.
//
// New here: a Checkpoint holds all that a run depends on: weights, running statistics, moments, the learning rate, the
// random numbers of dropout, and how far the data was read.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <xent/xent.h>

using namespace xent;

struct Run {
  explicit Run(const Dataset& data) : batches(data, {.batch = 50, .shuffle = true, .seed = 1}) {
    checkpoint.add(model);
    checkpoint.add("optimizer", optimizer);
    checkpoint.add("schedule", schedule);
    checkpoint.add("random", random.state());
    checkpoint.add("loader", batches);
  }

  void train_one_epoch() {
    Step train_step([&](const Tensor& images, const Tensor& labels) {
      Tape tape;
      optimizer.step(tape.backward(softmax_cross_entropy(model(images), labels)));
      schedule.step();
    });
    for (const Batch& batch : batches) train_step(batch.images, batch.labels);
  }

  Generator random{1};
  Sequential model{Conv2d(1, 8, 3, random, {.stride = 2}),  // [50, 28, 28, 1] -> [50, 13, 13, 8]
                   BatchNorm2d(8),
                   Relu(),
                   MaxPool2d(2),  // [50, 6, 6, 8]
                   Flatten(),
                   Dropout(0.25, random),
                   Linear(288, 10, random)};
  Adam optimizer{model.parameters(), {.learning_rate = 1e-2}};
  Schedule schedule{optimizer, {.decay = Decay::cosine, .warmup = 5, .steps = 75}};
  Loader batches;
  Checkpoint checkpoint;
};

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int main(int argc, char** argv) {
  const std::filesystem::path folder = argc > 1 ? argv[1] : std::filesystem::temp_directory_path();
  const std::string whole = folder / "xent_06_whole.safetensors", half = folder / "xent_06_half.safetensors";
  const ImageDataset digits = generated_digits(2000, 1);

  Run in_one_go(digits);
  in_one_go.train_one_epoch();
  in_one_go.train_one_epoch();
  in_one_go.checkpoint.save(whole);

  Run first(digits);
  first.train_one_epoch();
  first.checkpoint.save(half);

  Run second(digits);
  second.checkpoint.load(half);
  const Loader::Position position = second.batches.position();
  std::printf("taken up again at epoch %lld, batch %lld\n", static_cast<long long>(position.epoch),
              static_cast<long long>(position.batch));
  second.train_one_epoch();
  second.checkpoint.save(half);

  const bool same = bytes_of(whole) == bytes_of(half);
  std::filesystem::remove(whole);
  std::filesystem::remove(half);
  std::printf("two epochs in one go, and one and one: %s\n", same ? "the same bytes" : "other bytes");
  return same ? 0 : 1;
}
