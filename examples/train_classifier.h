// train_classifier: the loop that 04_mnist_mlp and 05_mnist_cnn share. Trains a model, tests it after every epoch,
// reports, and saves, so that a run can be stopped at any moment and taken up again with the same bits.
#pragma once

#include <memory>

#include <xent/xent.h>

#include "training.h"

namespace training {

using namespace xent;

inline std::unique_ptr<Optimizer> make_optimizer(const Options& options, const std::vector<Parameter>& parameters) {
  const double rate = options.learning_rate > 0 ? options.learning_rate : options.optimizer == "sgd" ? 0.05 : 1e-3;
  if (options.optimizer == "sgd")
    return std::make_unique<Sgd>(parameters, Sgd::Options{.learning_rate = rate, .momentum = 0.9});
  if (options.optimizer == "adamw") return std::make_unique<AdamW>(parameters, AdamW::Options{.learning_rate = rate});
  return std::make_unique<Adam>(parameters, Adam::Options{.learning_rate = rate});
}

// random is the generator that the model draws from, on the device where it trains: its state is part of the run.
inline void train_classifier(const Options& options, const Data& data, Module& model, Generator& random) {
  const Device device = random.state().device();
  const bool resident = device != Device::cpu();  // the images are there from the start
  model.to(device);                               // what the generator did not make
  Loader train_batches(
      data.train,
      {.batch = options.batch, .shuffle = true, .seed = options.seed, .device = device, .resident = resident});
  Loader test_batches(data.test, {.batch = 1000, .device = device, .resident = resident});
  const std::unique_ptr<Optimizer> optimizer = make_optimizer(options, model.parameters());
  Schedule schedule(*optimizer, {.decay = Decay::step, .steps = 1, .factor = 0.7});  // once per epoch
  Mean train_loss(device), test_loss(device);
  Accuracy test_accuracy(device);

  Step train_step([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(images), labels);
    optimizer->step(tape.backward(loss));
    train_loss.add(loss, labels.elements());
    return loss;
  });
  Step test_step([&](const Tensor& images, const Tensor& labels) {  // no tape: nothing is kept for a backward
    Tensor logits = model(images);
    test_loss.add(softmax_cross_entropy(logits, labels), labels.elements());
    test_accuracy.add(logits, labels);
  });
  const auto test = [&] {
    test_loss.reset();
    test_accuracy.reset();
    for (const Batch& batch : test_batches) test_step(batch.images, batch.labels);
  };

  Checkpoint checkpoint;  // all that the run depends on
  checkpoint.add(model);
  checkpoint.add("optimizer", *optimizer);
  checkpoint.add("schedule", schedule);
  checkpoint.add("random", random.state());
  checkpoint.add("loader", train_batches);
  if (!options.resume.empty()) checkpoint.load(options.resume);

  Report report(options, data, model);
  while (train_batches.epoch() < options.epochs) {
    train_loss.reset();
    report.begin_epoch(static_cast<int>(train_batches.epoch() + 1));
    for (const Batch& batch : train_batches)
      report.step(batch, train_step(batch.images, batch.labels), train_batches.batches());
    report.end_training();
    schedule.step();

    test();
    report.end_epoch(train_loss.value(), test_loss.value(), test_accuracy.value());
    if (!options.best.empty()) checkpoint.save_best(options.best, test_accuracy.value());
    if (!options.checkpoint.empty()) checkpoint.save(options.checkpoint);
  }
  if (test_accuracy.count() == 0) test();  // a checkpoint that had all epochs already
  report.end(test_accuracy.value(), train_batches.epoch());
}

}  // namespace training
