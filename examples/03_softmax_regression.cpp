// Trains the smallest classifier, one linear layer, with everything in sight: no modules, no optimizer, no Step.
//
// New here: the fused loss, parameters, a training loop.
#include <cmath>
#include <cstdio>

#include <xent/xent.h>

using namespace xent;

int main() {
  const ImageDataset train = generated_digits(2000, 1), test = generated_digits(500, 2);
  Loader batches(train, {.batch = 50, .shuffle = true, .seed = 1});

  Tensor weight = parameter(Tensor::zeros({784, 10}));  // a parameter's gradient is wanted on every tape
  Tensor bias = parameter(Tensor::zeros({10}));
  const Tensor learning_rate = Tensor::scalar(0.5);

  for (int epoch = 1; epoch <= 5; ++epoch) {
    double total = 0;
    for (const Batch& batch : batches) {
      Tape tape;
      Tensor logits = linear(flatten(batch.images), weight, bias);  // [50, 10]
      Tensor loss = softmax_cross_entropy(logits, batch.labels);    // []
      Gradients gradients = tape.backward(loss);
      sgd_step(weight, gradients[weight], {}, learning_rate);  // weight -= learning_rate * gradient
      sgd_step(bias, gradients[bias], {}, learning_rate);
      total += loss.item();
    }
    std::printf("epoch %d: mean loss %.2f\n", epoch, total / static_cast<double>(batches.batches()));
  }

  int64_t right = 0;
  Loader unseen(test, {.batch = 100});
  for (const Batch& batch : unseen) {  // no tape here, so nothing is recorded
    const std::vector<int64_t> guess = argmax(linear(flatten(batch.images), weight, bias)).to_vector<int64_t>();
    const std::vector<int64_t> label = batch.labels.to_vector<int64_t>();
    for (size_t i = 0; i < guess.size(); ++i) right += guess[i] == label[i];
  }
  const double share = static_cast<double>(right) / static_cast<double>(test.size());
  std::printf("about %.0f %% of the unseen digits are right\n",
              5 * std::round(20 * share));  // another machine rounds otherwise
}
