// Trains a multilayer perceptron, 784-512-256-10, on Fashion-MNIST.
//
// New here: modules, and in train_classifier.h all that a real run has around them: an optimizer with a schedule, a
// Loader, metrics, checkpoints, and Step, which records the training step and replays it.
//
//   04_mnist_mlp --epochs 10 --optimizer adam --checkpoint mlp.safetensors
#include "train_classifier.h"

using namespace xent;

void train(const training::Options& options) {
  const training::Data data = training::load_data(options.data);
  Generator random(options.seed, parse_device(options.device));
  Sequential model(Flatten(),                                   // [batch, 28, 28, 1] -> [batch, 784]
                   Linear(784, 512, random, Activation::relu),  // [batch, 512]
                   Linear(512, 256, random, Activation::relu),  // [batch, 256]
                   Linear(256, data.train.classes(), random));  // [batch, 10]
  training::train_classifier(options, data, model, random);
}

int main(int argc, char** argv) {
  return training::run(argc, argv, "Trains a multilayer perceptron, 784-512-256-10, on Fashion-MNIST", 10, train);
}
