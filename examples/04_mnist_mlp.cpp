// Trains a multilayer perceptron, 784-512-256-10, on Fashion-MNIST.
//
// New here: modules, an optimizer, a Loader, and Step, which records the training step and replays it.
//
//   04_mnist_mlp --epochs 10 --optimizer adam
#include "training.h"

using namespace xent;

void train(const training::Options& options) {
  set_threads(options.threads);
  const training::Data data = training::load_data(options.data);
  Loader train_batches(data.train, {.batch = options.batch, .shuffle = true, .seed = options.seed});
  Loader test_batches(data.test, {.batch = 1000});

  Generator random(options.seed);
  Sequential model(Flatten(),                                   // [batch, 28, 28, 1] -> [batch, 784]
                   Linear(784, 512, random, Activation::relu),  // [batch, 512]
                   Linear(512, 256, random, Activation::relu),  // [batch, 256]
                   Linear(256, data.train.classes(), random));  // [batch, 10]
  const std::unique_ptr<Optimizer> optimizer = training::make_optimizer(options, model.parameters());
  Mean train_loss, test_loss;
  Accuracy test_accuracy;

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

  int64_t weights = 0;
  for (const Parameter& parameter : model.parameters()) weights += parameter.value.elements();
  training::Report report(options, data, weights);

  const double first_rate = optimizer->learning_rate();
  for (int epoch = 1; epoch <= options.epochs; ++epoch) {
    optimizer->set_learning_rate(first_rate * (options.epochs - epoch + 1) / options.epochs);  // falls in equal steps
    report.begin_epoch(epoch);
    for (const Batch& batch : train_batches)
      report.step(batch, train_step(batch.images, batch.labels), train_batches.batches());
    report.end_training();

    for (const Batch& batch : test_batches) test_step(batch.images, batch.labels);
    report.end_epoch({epoch, train_loss.value(), test_loss.value(), test_accuracy.value()});
    train_loss.reset();
    test_loss.reset();
    test_accuracy.reset();
  }
}

int main(int argc, char** argv) {
  return training::run(argc, argv, "Trains a multilayer perceptron, 784-512-256-10, on Fashion-MNIST", 10, train);
}
