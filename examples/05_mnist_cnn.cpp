// Trains a convolutional network on Fashion-MNIST: the one of PyTorch's own MNIST example.
//
// New here: a module of one's own, convolution, pooling and dropout.
//
//   05_mnist_cnn --epochs 5 --checkpoint cnn.safetensors
#include "train_classifier.h"

using namespace xent;

struct Net : Module {
  Conv2d conv1, conv2;
  Dropout dropout1, dropout2;
  Linear fc1, fc2;

  Net(int64_t classes, Generator& random)
      : conv1(1, 32, 3, random, {.activation = Activation::relu}),
        conv2(32, 64, 3, random, {.activation = Activation::relu}),
        dropout1(0.25, random),
        dropout2(0.5, random),
        fc1(9216, 128, random, Activation::relu),
        fc2(128, classes, random) {}

  Tensor forward(const Tensor& images) override {  // [batch, 28, 28, 1]
    Tensor x = conv1(images);                      // [batch, 26, 26, 32]
    x = dropout1(conv2.max_pooled(x));             // [batch, 12, 12, 64]
    x = dropout2(fc1(flatten(x)));                 // [batch, 9216], [batch, 128]
    return fc2(x);                                 // [batch, classes]
  }
  void visit(Visitor& visitor) override {
    visitor("conv1", conv1)("conv2", conv2)("dropout1", dropout1)("dropout2", dropout2)("fc1", fc1)("fc2", fc2);
  }
  std::string describe() const override { return "Net"; }
};

void train(const training::Options& options) {
  const training::Data data = training::load_data(options.data);
  Generator random(options.seed, parse_device(options.device));
  Net model(data.train.classes(), random);
  training::train_classifier(options, data, model, random);
}

int main(int argc, char** argv) {
  return training::run(argc, argv, "Trains the convolutional network of PyTorch's MNIST example on Fashion-MNIST", 5,
                       train);
}
