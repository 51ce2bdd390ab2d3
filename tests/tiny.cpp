// The smoke test: run it without thinking, it takes a moment.
#include <doctest/doctest.h>

#include <xent/xent.h>

using namespace xent;

TEST_CASE("a tensor computes") {
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK((x * x + 1.0).to_vector<float>() == std::vector<float>{2, 5, 10, 17, 26, 37});
  CHECK(matmul(x, x, {.transpose_b = true}).to_vector<float>() == std::vector<float>{14, 32, 32, 77});
}

TEST_CASE("a tape differentiates") {
  const Tensor x = Tensor::from({3}, {1});
  Tape tape;
  tape.watch(x);
  CHECK(tape.backward(sum(x * x))[x].item() == 6);
}

TEST_CASE("gradients are right") {
  CHECK(check_op(linear_op));
  CHECK(check_op(softmax_cross_entropy_op));
}

TEST_CASE("a replayed step learns exclusive or") {
  Generator random(1);
  Sequential model(Linear(2, 8, random, Activation::tanh), Linear(8, 2, random));
  Adam optimizer(model.parameters(), {.learning_rate = 0.05});
  Step step([&](const Tensor& x, const Tensor& y) {
    Tape tape;
    Tensor loss = softmax_cross_entropy(model(x), y);
    optimizer.step(tape.backward(loss));
    return loss;
  });
  const Tensor x = Tensor::from({0, 0, 0, 1, 1, 0, 1, 1}, {4, 2});
  const Tensor y = Tensor::from<int64_t>({0, 1, 1, 0}, {4});
  double loss = 0;
  for (int i = 0; i < 200; ++i) loss = step(x, y).item();
  CHECK(loss < 0.05);
  CHECK(argmax(model(x)).to_vector<int64_t>() == y.to_vector<int64_t>());
}
