#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include <xent/xent.h>

using namespace xent;

namespace {

struct Mlp : Module {
  Linear fc1, fc2;
  explicit Mlp(Generator& random) : fc1(8, 5, random, Activation::relu), fc2(5, 3, random) {}

  Tensor forward(const Tensor& x) override { return fc2(fc1(x)); }
  void visit(Visitor& visitor) override { visitor("fc1", fc1)("fc2", fc2); }
  std::string describe() const override { return "Mlp"; }
};

std::vector<std::string> names(Module& module) {
  std::vector<std::string> list;
  for (const Parameter& parameter : module.parameters()) list.push_back(parameter.name);
  return list;
}

}  // namespace

TEST_CASE("parameters carry the path of names, as in PyTorch") {
  Generator random(1);
  Mlp mlp(random);
  CHECK(names(mlp) == std::vector<std::string>{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"});
  Sequential nested(Flatten(), Linear(4, 3, random),
                    Sequential(Relu(), Linear(3, 2, random, Activation::none, {.bias = false})));
  CHECK(names(nested) == std::vector<std::string>{"1.weight", "1.bias", "2.1.weight"});
}

TEST_CASE("a Sequential computes what its layers compute one after the other") {
  Generator random(2);
  Sequential model(Flatten(), Linear(6, 5, random, Activation::tanh), Gelu(), Linear(5, 4, random), Sigmoid(), Tanh(),
                   Relu());
  const Tensor x = normal({3, 2, 3}, 0, 1, random);
  auto& first = static_cast<Linear&>(model[1]);
  auto& second = static_cast<Linear&>(model[3]);
  const Tensor expected = relu(tanh(sigmoid(
      linear(gelu(linear(flatten(x), first.weight, first.bias, Activation::tanh)), second.weight, second.bias))));
  CHECK(model(x).to_vector<float>() == expected.to_vector<float>());
}

TEST_CASE("every parameter of a model gets a gradient that differences confirm") {
  Generator random(3);
  Sequential model(Linear(4, 5, random, Activation::sigmoid, {.dtype = DType::f64}),
                   Linear(5, 3, random, Activation::none, {.dtype = DType::f64}));
  auto& first = static_cast<Linear&>(model[0]);
  auto& second = static_cast<Linear&>(model[1]);
  const Tensor x = normal({2, 4}, 0, 1, random, DType::f64);
  const Tensor labels = Tensor::from<int64_t>({2, 0}, {2});
  const auto f = [&](std::span<const Tensor> in) {
    return softmax_cross_entropy(linear(linear(x, in[0], in[1], Activation::sigmoid), in[2], in[3]), labels);
  };
  const GradientReport report = check_gradients(f, {first.weight, first.bias, second.weight, second.bias});
  CHECK_MESSAGE(report.passed, report.message);
}

TEST_CASE("equal seeds give equal models, other seeds others") {
  Generator a(7), b(7), c(8);
  const std::vector<float> first = Linear(9, 4, a).weight.to_vector<float>();
  CHECK(Linear(9, 4, b).weight.to_vector<float>() == first);
  CHECK(Linear(9, 4, c).weight.to_vector<float>() != first);
  CHECK(Linear(9, 4, a).weight.to_vector<float>() != first);  // the generator went on
}

TEST_CASE("Linear starts within 1/sqrt(in)") {
  Generator random(4);
  const Linear layer(100, 50, random);
  float largest = 0;
  for (const float w : layer.weight.to_vector<float>()) largest = std::max(largest, std::abs(w));
  CHECK(largest <= 0.1f);
  CHECK(largest > 0.099f);
  CHECK_THROWS_AS(Linear(0, 3, random), ArgumentError);
}

TEST_CASE("initialisers have the spread their formulas promise") {
  Generator random(5);
  const Shape shape{200, 300};
  const auto deviation = [](const Tensor& x) {
    double total = 0;
    for (const float value : x.to_vector<float>()) total += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(total / static_cast<double>(x.elements()));
  };
  CHECK(deviation(kaiming_normal(shape, random)) == doctest::Approx(std::sqrt(2.0 / 200)).epsilon(0.02));
  CHECK(deviation(kaiming_uniform(shape, random)) == doctest::Approx(std::sqrt(2.0 / 200)).epsilon(0.02));
  CHECK(deviation(xavier_normal(shape, random)) == doctest::Approx(std::sqrt(2.0 / 500)).epsilon(0.02));
  CHECK(deviation(xavier_uniform(shape, random, 2)) == doctest::Approx(2 * std::sqrt(2.0 / 500)).epsilon(0.02));
  CHECK(fans({3, 3, 16, 32}).in == 144);
  CHECK(fans({3, 3, 16, 32}).out == 288);
  CHECK_THROWS_AS(kaiming_normal({5}, random), ShapeError);
}

TEST_CASE("a parameter is not made inside a Step, and is not an integer") {
  Step step([](const Tensor& x) { parameter(x); });
  CHECK_THROWS_AS(step(Tensor::ones({2})), ReplayError);
  CHECK_THROWS_AS(parameter(Tensor::zeros({2}, DType::i32)), DTypeError);
}

TEST_CASE("to() the device a model is on changes nothing; a missing one is an error that leaves it whole") {
  Generator random(6);
  Mlp model(random);
  const uint64_t id = model.fc1.weight.id();
  model.to(Device::cpu());
  CHECK(model.fc1.weight.id() == id);
  CHECK_THROWS_AS(model.to(Device::cuda()), DeviceError);
  CHECK(model.fc1.weight.id() == id);
}

TEST_CASE("a summary lists parts, parameters and the total") {
  Generator random(7);
  Mlp model(random);
  CHECK(summary(model) ==
        "name  module              parameters                 elements\n"
        "      Mlp                                                    \n"
        "fc1   Linear(8, 5, relu)  weight [8, 5], bias [5]          45\n"
        "fc2   Linear(5, 3)        weight [5, 3], bias [3]          18\n"
        "                          total                            63\n");
}

TEST_CASE("wrong input is told in the layer's words") {
  Generator random(8);
  Mlp model(random);
  CHECK_THROWS_WITH_AS(model(Tensor::ones({2, 7})),
                       "linear: input [2, 7] does not fit weight [8, 5]: its last extent must be 8", ShapeError);
  CHECK_THROWS_WITH_AS(model(Tensor::ones({3, 2, 4})), doctest::Contains("must be 8; flatten it first"), ShapeError);
}

TEST_CASE("a frozen model trains nothing, and can be trained again") {
  Generator random(9);
  Mlp model(random);
  model.set_requires_grad(false);
  CHECK(model.parameters().empty());
  {
    Tape tape;
    model(Tensor::ones({2, 8}));
    CHECK(tape.size() == 0);
  }
  model.set_requires_grad(true);
  CHECK(model.parameters().size() == 4);
}

TEST_CASE("a layer used twice shares its parameters, which are listed once") {
  Generator random(10);
  const Linear shared(4, 4, random);
  Sequential model(shared, Relu(), shared);
  CHECK(names(model) == std::vector<std::string>{"0.weight", "0.bias"});
  Sgd optimizer(model.parameters());
  Tape tape;
  optimizer.step(tape.backward(sum(model(Tensor::ones({1, 4})))));
  CHECK(static_cast<Linear&>(model[2]).weight.to_vector<float>() ==
        static_cast<Linear&>(model[0]).weight.to_vector<float>());
  CHECK_THROWS_AS(model[3], ArgumentError);
  CHECK_THROWS_AS(optimizer.learning_rate(1), ArgumentError);
}

TEST_CASE("Accuracy refuses labels out of range, and calls a row with NaN wrong") {
  const float nan = std::nanf("");
  Accuracy accuracy;
  accuracy.add(Tensor::from({0, nan, 1, 1, nan, 0, nan, 1, 0}, {3, 3}), Tensor::from<int64_t>({2, 0, 1}, {3}));
  CHECK(accuracy.value() == 0);
  CHECK_THROWS_AS(accuracy.add(Tensor::ones({2, 3}), Tensor::from<int64_t>({1, 3}, {2})), LabelError);
}

TEST_CASE("Mean weighs its values, Accuracy counts rows, both across replayed steps") {
  Mean mean_loss;
  Accuracy accuracy;
  CHECK(std::isnan(accuracy.value()));
  Step step([&](const Tensor& loss, const Tensor& logits, const Tensor& labels) {
    mean_loss.add(loss, labels.elements());
    accuracy.add(logits, labels);
  });
  const Tensor logits = Tensor::from({1, 2, 3, 0, 5, 5}, {3, 2});
  const Tensor labels = Tensor::from<int64_t>({1, 0, 0}, {3});  // equal logits: the first counts
  for (int i = 0; i < 4; ++i) step(Tensor::scalar(i), logits, labels);
  CHECK(mean_loss.value() == 1.5);
  CHECK(accuracy.value() == 1);
  CHECK(accuracy.count() == 12);
  accuracy.reset();
  accuracy.add(logits, Tensor::from<int64_t>({0, 1, 1}, {3}));
  CHECK(accuracy.value() == 0);
  accuracy.reset();
  accuracy.add(Tensor::full({1, 2}, std::nan("")), Tensor::from<int64_t>({0}, {1}));
  CHECK(accuracy.value() == 0);  // a row of NaN predicts nothing
}
