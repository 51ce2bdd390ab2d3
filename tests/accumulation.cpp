// Gradient accumulation: several small batches, one backward each, give the gradient of the whole batch.
#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "count_allocations.h"
#include "replay_mode.h"

using namespace xent;

namespace {

constexpr int64_t whole = 28;

Sequential mlp(DType dtype, Generator& random) {
  return Sequential(Flatten(), Linear(64, 16, random, Activation::relu, {.dtype = dtype}),
                    Linear(16, 10, random, Activation::none, {.dtype = dtype}));
}

Sequential cnn(DType dtype, Generator& random) {
  return Sequential(Conv2d(1, 4, 3, random, {.padding = 1, .activation = Activation::relu, .dtype = dtype}),
                    MaxPool2d(2), Flatten(), Linear(64, 10, random, Activation::none, {.dtype = dtype}));
}

// Cuts the batch into k parts, of which the first are one larger where k does not divide it.
std::vector<int64_t> cuts(int64_t k) {
  std::vector<int64_t> at{0};
  for (int64_t i = 0; i < k; ++i) at.push_back(at.back() + whole / k + (i < whole % k));
  return at;
}

std::vector<Tensor> tensors_of(Sequential& model) {
  std::vector<Tensor> tensors;
  for (const Parameter& parameter : model.parameters()) tensors.push_back(parameter.value);
  return tensors;
}

struct Data {
  Generator random{3};
  Tensor images, labels;
  explicit Data(DType dtype) {
    images = cast(uniform({whole, 8, 8, 1}, -1, 1, random), dtype);
    std::vector<int64_t> classes;
    for (int64_t i = 0; i < whole; ++i) classes.push_back(i * 7 % 10);
    labels = Tensor::from(classes, {whole});
  }
};

// The largest difference of two gradients, as a share of the largest element.
double difference(const std::vector<Tensor>& parameters, const Gradients& a, const Gradients& b) {
  double largest = 0, apart = 0;
  for (const Tensor& parameter : parameters) {
    const std::vector<double> x = cast(a[parameter], DType::f64).to_vector<double>();
    const std::vector<double> y = cast(b[parameter], DType::f64).to_vector<double>();
    for (size_t i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::abs(x[i]));
      apart = std::max(apart, std::abs(x[i] - y[i]));
    }
  }
  return apart / largest;
}

template <class MakeModel>
void check(MakeModel make_model, DType dtype, double tolerance) {
  const Data data(dtype);
  for (const Replay replay : {Replay::on, Replay::off})
    for (const int64_t k : {1, 2, 3, 4, 7}) {
      CAPTURE(k);
      const Mode mode(replay);
      Generator random(1);
      Sequential model = make_model(dtype, random);
      const std::vector<Tensor> parameters = tensors_of(model);
      Tape tape;
      const Gradients expected = tape.backward(softmax_cross_entropy(model(data.images), data.labels));

      Gradients total = Gradients::zeros(parameters);
      Step add([&](const Tensor& images, const Tensor& labels) {
        Tape part;
        Tensor sum = softmax_cross_entropy(model(images), labels, {.reduction = {.kind = Reduction::Kind::sum}});
        part.backward(scale(sum, 1.0 / whole), total);
      });
      const std::vector<int64_t> at = cuts(k);
      for (int round = 0; round < 3; ++round) {  // run, recorded, replayed
        total.fill(0);
        for (size_t i = 0; i + 1 < at.size(); ++i)
          add(slice_rows(data.images, at[i], at[i + 1]), slice_rows(data.labels, at[i], at[i + 1]));
        CHECK(difference(parameters, expected, total) < tolerance);
      }
    }
}

}  // namespace

TEST_CASE("micro-batches of any number give the gradient of the whole batch of an MLP") {
  check(mlp, DType::f32, 1e-6);
  check(mlp, DType::f64, 1e-13);
}

TEST_CASE("micro-batches of any number give the gradient of the whole batch of a CNN") {
  check(cnn, DType::f32, 1e-6);
  check(cnn, DType::f64, 1e-13);
}

TEST_CASE("a mean of means is another gradient where the micro-batches differ in size") {
  const Data data(DType::f64);
  Generator random(1);
  Sequential model = mlp(DType::f64, random);
  const std::vector<Tensor> parameters = tensors_of(model);
  Tape tape;
  const Gradients expected = tape.backward(softmax_cross_entropy(model(data.images), data.labels));
  Gradients total = Gradients::zeros(parameters);
  for (const auto& [begin, end] : {std::pair{0, 26}, std::pair{26, 28}}) {
    Tape part;
    const Tensor mean =
        softmax_cross_entropy(model(slice_rows(data.images, begin, end)), slice_rows(data.labels, begin, end));
    part.backward(scale(mean, 0.5), total);
  }
  CHECK(difference(parameters, expected, total) > 0.1);
}

TEST_CASE("warm micro-batches and updates take no memory, and train as the whole batch does") {
  const Mode mode(Replay::on);
  const Data data(DType::f64);
  Generator random(1), same(1);
  Sequential model = cnn(DType::f64, random), other = cnn(DType::f64, same);
  Sgd optimizer(model.parameters(), {.learning_rate = 0.1}),
      other_optimizer(other.parameters(), {.learning_rate = 0.1});
  Gradients total = Gradients::zeros(tensors_of(model));
  Step add([&](const Tensor& images, const Tensor& labels) {
    Tape tape;
    Tensor sum = softmax_cross_entropy(model(images), labels, {.reduction = {.kind = Reduction::Kind::sum}});
    tape.backward(scale(sum, 1.0 / whole), total);
  });
  Step update([&] {
    optimizer.step(total);
    total.fill(0);
  });
  std::vector<Tensor> images, labels;
  for (int64_t i = 0; i < 4; ++i) {
    images.push_back(slice_rows(data.images, 7 * i, 7 * i + 7));
    labels.push_back(slice_rows(data.labels, 7 * i, 7 * i + 7));
  }
  uint64_t taken = 0, requested = 0;
  for (int round = 0; round < 8; ++round) {
    const uint64_t allocations_before = allocations, requests_before = memory_stats().requests;
    for (size_t i = 0; i < images.size(); ++i) add(images[i], labels[i]);
    update();
    if (round < 3) continue;
    taken += allocations - allocations_before;
    requested += memory_stats().requests - requests_before;
  }
  CHECK(taken == 0);
  CHECK(requested == 0);
  for (int round = 0; round < 8; ++round) {
    Tape tape;
    other_optimizer.step(tape.backward(softmax_cross_entropy(other(data.images), data.labels)));
  }
  const std::vector<Tensor> ours = tensors_of(model), theirs = tensors_of(other);
  for (size_t p = 0; p < ours.size(); ++p) {
    const std::vector<double> x = ours[p].to_vector<double>(), y = theirs[p].to_vector<double>();
    for (size_t i = 0; i < x.size(); ++i) CHECK(std::abs(x[i] - y[i]) < 1e-12);
  }
}
