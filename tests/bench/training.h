// The models of 04_mnist_mlp and 05_mnist_cnn, and a training loop over them that can be run a few steps at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <xent/xent.h>

namespace bench {

using namespace xent;

inline Sequential make_mlp(Generator& random) {
  return Sequential(Flatten(), Linear(784, 512, random, Activation::relu), Linear(512, 256, random, Activation::relu),
                    Linear(256, 10, random));
}

inline Sequential make_small_mlp(Generator& random) {
  return Sequential(Flatten(), Linear(784, 128, random, Activation::relu), Linear(128, 10, random));
}

inline Sequential make_cnn(Generator& random) {
  return Sequential(Conv2d(1, 32, 3, random, {.activation = Activation::relu}),
                    Conv2d(32, 64, 3, random, {.activation = Activation::relu}), MaxPool2d(2), Dropout(0.25, random),
                    Flatten(), Linear(9216, 128, random, Activation::relu), Dropout(0.5, random),
                    Linear(128, 10, random));
}

inline ImageDataset training_data() {
  const std::string folder = find_fashion_mnist();
  return folder.empty() ? generated_digits(10000, 1) : load_mnist(folder, Split::train);
}

// A model, its optimizer and its training step, going over the data again and again, on any device.
class Training {
 public:
  Training(const ImageDataset& data, int64_t batch, Sequential (*make)(Generator&), bool adam = true,
           Device device = Device::cpu())
      : batches_(data, {.batch = batch, .shuffle = true, .seed = 1, .drop_last = true, .device = device}),
        random_(1, device),
        model_(make(random_)),
        batch_(batch) {
    if (adam) optimizer_ = std::make_unique<Adam>(model_.parameters());
    else optimizer_ = std::make_unique<Sgd>(model_.parameters(), Sgd::Options{.learning_rate = 0.02, .momentum = 0.9});
  }
  Training(const Training&) = delete;  // the step refers to the model
  Training& operator=(const Training&) = delete;

  // Does so many steps, loader included, and calls after(i) after the i-th.
  template <class After>
  void run(int64_t steps, const After& after) {
    for (int64_t done = 0; done < steps;) {
      if (!next_ || *next_ == batches_.end()) next_ = batches_.begin();
      step_((*next_)->images, (*next_)->labels);
      ++*next_;
      after(++done);
    }
  }
  void run(int64_t steps) {
    run(steps, [](int64_t) {});
  }

  int64_t batch() const { return batch_; }

 private:
  struct Update {
    Training& training;
    Tensor operator()(const Tensor& images, const Tensor& labels) const {
      Tape tape;
      Tensor loss = softmax_cross_entropy(training.model_(images), labels);
      training.optimizer_->step(tape.backward(loss));
      return loss;
    }
  };

  Loader batches_;
  Generator random_;
  Sequential model_;
  std::unique_ptr<Optimizer> optimizer_;
  int64_t batch_;
  Step<Update> step_{Update{*this}};
  std::optional<Loader::Iterator> next_;
};

}  // namespace bench
