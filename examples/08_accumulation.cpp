// Takes a batch of 256 in four parts of 64, for when the whole one does not fit into memory: the gradients add up to
// those of the whole batch.
//
// New here: Gradients that outlive a tape, and a mean that each part divides by the denominator of the whole batch.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include <xent/xent.h>

using namespace xent;

int main() {
  constexpr int64_t batch = 256, part = 64;
  const ImageDataset digits = generated_digits(2560, 1);
  Loader batches(digits, {.batch = batch, .shuffle = true, .seed = 1});

  Generator random(1);
  Sequential model(Flatten(), Linear(784, 64, random, Activation::relu), Linear(64, 10, random));
  Adam optimizer(model.parameters());

  std::vector<Tensor> parameters;
  for (const Parameter& parameter : model.parameters()) parameters.push_back(parameter.value);
  Gradients gradients = Gradients::zeros(parameters);

  // Some digits count more than others. A part divides by what the rows of the whole batch weigh, not by its own.
  const Tensor weights = Tensor::from({1, 2, 1, 1, 0.5, 1, 1, 3, 1, 1}, {10});
  const auto add_gradients = [&](const Tensor& images, const Tensor& labels, const Tensor& normalizer) {
    Tape tape;
    tape.backward(
        softmax_cross_entropy(model(images), labels, {}, {.class_weights = weights, .normalizer = normalizer}),
        gradients);
  };
  Step add_part(add_gradients);
  Step update([&] {
    optimizer.step(gradients);
    gradients.fill(0);
  });

  double worst = 0;
  for (const Batch& whole : batches) {
    const Tensor normalizer =
        softmax_cross_entropy_denominator({batch, 10}, whole.labels, {}, {.class_weights = weights});
    for (int64_t begin = 0; begin < batch; begin += part)
      add_part(whole.images.slice(begin, begin + part), whole.labels.slice(begin, begin + part), normalizer);

    Gradients expected = Gradients::zeros(parameters);
    std::swap(expected, gradients);
    add_gradients(whole.images, whole.labels, {});
    std::swap(expected, gradients);
    for (const Tensor& parameter : parameters) {
      const std::vector<float> a = gradients[parameter].to_vector<float>(), b = expected[parameter].to_vector<float>();
      float largest = 0, difference = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::abs(b[i]));
        difference = std::max(difference, std::abs(a[i] - b[i]));
      }
      if (difference > 0) worst = std::max<double>(worst, difference / largest);
    }
    update();
  }
  std::printf("four parts of %lld against %lld at once: the gradients differ by %s than 1e-6 of the largest\n",
              static_cast<long long>(part), static_cast<long long>(batch), worst < 1e-6 ? "less" : "more");
  return worst < 1e-6 ? 0 : 1;
}
