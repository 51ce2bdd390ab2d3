// The layers for images, normalisation and randomness: shapes, names, what is trained, what is only kept, and what they
// do without a tape.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "replay_mode.h"

using namespace xent;

namespace {

using Floats = std::vector<float>;
using Names = std::vector<std::string>;

Names names(const std::vector<NamedTensor>& list) {
  Names result;
  for (const NamedTensor& entry : list) result.push_back(entry.name);
  return result;
}

Floats values(const Tensor& x) { return x.to_vector<float>(); }

}  // namespace

TEST_CASE("Conv2d: shapes of weight, bias and maps, the spread of its weights, and what it computes") {
  Generator random(1);
  Conv2d conv(3, 8, {5, 3}, random, {.stride = 2, .padding = {2, 1}, .activation = Activation::relu});
  CHECK(conv.weight.shape() == Shape{5, 3, 3, 8});
  CHECK(conv.bias.shape() == Shape{8});
  const Tensor x = normal_sample({2, 9, 8, 3}, DType::f32, 1), y = conv(x);
  CHECK(y.shape() == Shape{2, 5, 4, 8});
  CHECK(values(y) ==
        values(conv2d(x, conv.weight, conv.bias, {.stride = 2, .padding = {2, 1}, .activation = Activation::relu})));
  const double bound = 1 / std::sqrt(5.0 * 3 * 3);
  double largest = 0;
  for (const float value : values(conv.weight)) largest = std::max(largest, std::abs(static_cast<double>(value)));
  CHECK((largest <= bound && largest > 0.9 * bound));
  CHECK(names(conv.parameters()) == Names{"weight", "bias"});

  Conv2d bare(1, 1, 1, random, {.bias = false, .dtype = DType::f64});
  CHECK(names(bare.state()) == Names{"weight"});
  CHECK(bare(Tensor::ones({1, 2, 2, 1}, DType::f64)).dtype() == DType::f64);
  CHECK_THROWS_AS(Conv2d(0, 1, 1, random), ArgumentError);
  CHECK_THROWS_AS(Conv2d(1, 1, {3, 0}, random), ArgumentError);
  CHECK_THROWS_AS(Conv2d(INT64_MIN, 1, 1, random), ArgumentError);
  CHECK_THROWS_AS(Conv2d(INT64_MAX, INT64_MAX, 3, random), ShapeError);
}

TEST_CASE("pools: shapes, and the ops that they apply") {
  const Tensor x = normal_sample({2, 7, 6, 3}, DType::f32, 2);
  CHECK(MaxPool2d(2)(x).shape() == Shape{2, 3, 3, 3});
  CHECK(AvgPool2d({3, 2})(x).shape() == Shape{2, 2, 3, 3});  // a window of 3 x 2, not one of 3 with a stride of 2
  CHECK(MaxPool2d({3, 2}).options.window == Extent2d(3, 2));
  CHECK(MaxPool2d({3, 2}).options.stride == 0);
  CHECK(MaxPool2d(Extent2d(3, 2)).options.window == Extent2d(3, 2));
  CHECK(MaxPool2d().options.window == Extent2d(2));
  CHECK(MaxPool2d(Pool2dOptions{.window = 4}).options.window == Extent2d(4));
  MaxPool2d overlapping({.window = 3, .stride = 2, .padding = 1});
  CHECK(overlapping(x).shape() == Shape{2, 4, 3, 3});
  CHECK(values(overlapping(x)) == values(max_pool2d(x, overlapping.options)));
  AvgPool2d average({.window = 3, .stride = 2, .padding = 1});
  CHECK(values(average(x)) == values(avg_pool2d(x, average.options)));
  GlobalAvgPool2d global;
  CHECK(global(x).shape() == Shape{2, 3});
  CHECK((overlapping.state().empty() && average.state().empty() && global.state().empty()));
}

TEST_CASE("layers say what they are, leaving out what is as usual") {
  Generator random(1);
  CHECK(Conv2d(1, 32, 3, random).describe() == "Conv2d(1, 32, 3)");
  CHECK(Conv2d(3, 8, {5, 3}, random,
               {.stride = 2, .padding = {2, 1}, .dilation = 2, .activation = Activation::tanh, .bias = false})
            .describe() == "Conv2d(3, 8, 5x3, stride 2, padding 2x1, dilation 2, tanh, no bias)");
  CHECK(MaxPool2d(2).describe() == "MaxPool2d(2)");
  CHECK(AvgPool2d({.window = {3, 2}, .stride = 1, .padding = 1}).describe() == "AvgPool2d(3x2, stride 1, padding 1)");
  CHECK(GlobalAvgPool2d().describe() == "GlobalAvgPool2d");
  BatchNorm2d norm(16);
  CHECK(norm.describe() == "BatchNorm2d(16)");
  norm.freeze();
  CHECK(norm.describe() == "BatchNorm2d(16, frozen)");
  CHECK(LayerNorm({4, 256}).describe() == "LayerNorm([4, 256])");
  CHECK(Dropout(0.25, random).describe() == "Dropout(0.25)");
  CHECK(RandomShiftFlip({.shift = {2, 1}, .flip = true}, random).describe() == "RandomShiftFlip(2x1, flip)");
  CHECK(RandomShiftFlip({.shift = 2}, random).describe() == "RandomShiftFlip(2)");
}

TEST_CASE("a summary shows running statistics, and counts what is trained") {
  Generator random(1);
  Sequential model(Conv2d(1, 4, 3, random), BatchNorm2d(4), Dropout(0.5, random));
  const std::string text = summary(model);
  CHECK(text.find("BatchNorm2d(4)") != std::string::npos);
  CHECK(text.find("running_var [4]") != std::string::npos);
  CHECK(text.find("Dropout(0.5)") != std::string::npos);
  const std::string total = std::to_string(3 * 3 * 4 + 4 + 4 + 4) + "\n";  // statistics are not trained
  CHECK(text.substr(text.size() - total.size()) == total);
}

TEST_CASE(
    "running statistics are part of the state, but no parameters, and stay so when a model is frozen and thawed") {
  Generator random(1);
  Sequential model(Conv2d(1, 4, 3, random), BatchNorm2d(4), LayerNorm({4}));
  const Names trained = {"0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"};
  CHECK(names(model.parameters()) == trained);
  CHECK(names(model.state()) ==
        Names{"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "2.weight", "2.bias"});
  model.set_requires_grad(false);
  CHECK(model.parameters().empty());
  CHECK(model.state().size() == 8);
  model.set_requires_grad(true);
  CHECK(names(model.parameters()) == trained);
  auto& norm = static_cast<BatchNorm2d&>(model[1]);
  CHECK((!norm.running_mean.requires_grad() && !norm.running_var.requires_grad()));
}

TEST_CASE("BatchNorm2d normalises by the batch and updates its statistics while a tape records, else it does neither") {
  const Tensor x = normal_sample({8, 3, 3, 2}, DType::f32, 3);
  BatchNorm2d norm(2, {.momentum = 0.25});
  const auto plain = [&](const Tensor& input) {
    return values(batch_norm2d_frozen(input, norm.weight, norm.bias, norm.running_mean, norm.running_var));
  };

  CHECK(values(norm(x)) == plain(x));  // no tape
  CHECK(values(norm.running_mean) == Floats{0, 0});
  CHECK(values(norm.running_var) == Floats{1, 1});

  double total = 0, squares = 0;
  const Floats from = values(x);
  for (size_t i = 0; i < from.size(); i += 2) total += static_cast<double>(from[i]);
  const double count = 72, average = total / count;
  for (size_t i = 0; i < from.size(); i += 2)
    squares += (static_cast<double>(from[i]) - average) * (static_cast<double>(from[i]) - average);
  {
    Tape tape;
    const Floats y = values(norm(x));
    CHECK(y[0] ==
          doctest::Approx((static_cast<double>(from[0]) - average) / std::sqrt(squares / count + 1e-5)).epsilon(1e-5));
  }
  CHECK(values(norm.running_mean)[0] == doctest::Approx(0.25 * average).epsilon(1e-5));
  CHECK(values(norm.running_var)[0] == doctest::Approx(0.75 + 0.25 * squares / (count - 1)).epsilon(1e-5));
  CHECK(values(norm(x)) == plain(x));  // by the new statistics

  norm.freeze();
  CHECK(norm.frozen());
  const Floats mean = values(norm.running_mean);
  Tape tape;
  const Tensor y = norm(x);
  CHECK(values(y) == plain(x));
  CHECK(values(norm.running_mean) == mean);
  CHECK(tape.backward(sum(y)).contains(norm.weight));  // frozen statistics, not a frozen layer
  norm.freeze(false);
  norm(x);  // backward has run: the tape does not record any more
  CHECK(values(norm.running_mean) == mean);
  Tape next;
  norm(x);
  CHECK(values(norm.running_mean) != mean);
}

TEST_CASE("normalisation layers start as weight 1 and bias 0, and refuse shapes without elements") {
  BatchNorm2d batch(3, {.dtype = DType::f64});
  CHECK(batch.weight.to_vector<double>() == std::vector<double>{1, 1, 1});
  CHECK(batch.running_var.dtype() == DType::f64);
  LayerNorm layer({2, 3}, {.epsilon = 0.5});
  CHECK(layer.bias.shape() == Shape{2, 3});
  const Tensor x = normal_sample({4, 2, 3}, DType::f32, 4);
  CHECK(values(layer(x)) == values(layer_norm(x, {}, {}, {.axes = 2, .epsilon = 0.5})));
  CHECK_THROWS_AS(layer(Tensor::ones({4, 3, 2})), ShapeError);
  CHECK_THROWS_AS(BatchNorm2d(0), ArgumentError);
  CHECK_THROWS_AS(BatchNorm2d(INT64_MIN), ArgumentError);
  CHECK_THROWS_AS(LayerNorm(Shape{}), ArgumentError);
  CHECK_THROWS_AS(LayerNorm({3, 0}), ArgumentError);
}

TEST_CASE("random layers pass their input on without a tape, and draw only with one") {
  Generator random(5);
  Dropout dropout(0.5, random);
  RandomShiftFlip augment({.shift = 2, .flip = true, .fill = 9}, random);
  const Tensor x = normal_sample({6, 5, 5, 1}, DType::f32, 5);
  CHECK(dropout(x).id() == x.id());
  CHECK(augment(x).id() == x.id());
  CHECK(random.state().to_vector<int64_t>() == std::vector<int64_t>{5, 0});
  CHECK((dropout.state().empty() && augment.state().empty()));
  Tape tape;
  CHECK(values(dropout(x)) != values(x));
  CHECK(values(augment(x)) != values(x));
}

TEST_CASE("layers share the generator they are given: each draws on from where the other stopped, as the ops do") {
  Generator shared(7), plain(7);
  Dropout first(0.5, shared), second(0.25, shared);
  RandomShiftFlip augment({.shift = 1, .flip = true}, shared);
  const Tensor x = Tensor::ones({4, 3, 3, 1});
  Tape tape;
  CHECK(values(augment(x)) == values(random_shift_flip(x, {.shift = 1, .flip = true}, plain)));
  CHECK(values(first(x)) == values(dropout(x, 0.5, plain)));
  CHECK(values(second(x)) == values(dropout(x, 0.25, plain)));
  CHECK(shared.state().to_vector<int64_t>() == plain.state().to_vector<int64_t>());
  shared.set_seed(8);
  plain.set_seed(8);
  CHECK(values(first(x)) == values(dropout(x, 0.5, plain)));
}

TEST_CASE("random layers refuse what can never be applied") {
  Generator random(1);
  for (const double bad : {-0.1, 1.5, std::nan("")}) CHECK_THROWS_AS(Dropout(bad, random), ArgumentError);
  CHECK_THROWS_AS(RandomShiftFlip({.shift = -1}, random), ArgumentError);
  CHECK_THROWS_AS(RandomShiftFlip({.shift = {0, INT64_MIN}}, random), ArgumentError);
  CHECK_THROWS_AS(RandomShiftFlip({.fill = HUGE_VAL}, random), ArgumentError);
  RandomShiftFlip far({.shift = 6}, random);
  Tape tape;
  CHECK_THROWS_AS(far(Tensor::ones({1, 5, 5, 1})), ArgumentError);
}

TEST_CASE("a model of all of them trains in a replayed Step with the bits of eager steps") {
  const auto train = [](Replay replay) {
    const Mode mode(replay);
    Generator random(9);
    Sequential model(RandomShiftFlip({.shift = 1, .flip = true}, random),
                     Conv2d(1, 4, 3, random, {.padding = 1, .activation = Activation::relu}), BatchNorm2d(4),
                     MaxPool2d(2), Dropout(0.25, random), AvgPool2d(2), Flatten(), LayerNorm({16}),
                     Linear(16, 3, random));
    Sgd optimizer(model.parameters(), {.learning_rate = 0.1});
    Step step([&](const Tensor& images, const Tensor& labels) {
      Tape tape;
      optimizer.step(tape.backward(softmax_cross_entropy(model(images), labels)));
    });
    for (uint64_t n = 0; n < 6; ++n)
      step(normal_sample({5, 8, 8, 1}, DType::f32, n), label_sample({5}, 3, DType::i64, n));
    std::vector<Floats> state;
    for (const NamedTensor& entry : model.state()) state.push_back(values(entry.value));
    return state;
  };
  const auto replayed = train(Replay::on);
  CHECK(replayed.size() == 10);
  CHECK(replayed == train(Replay::off));
}
