// tf.losses: the names of losses, the collections they go to, and their total.
#include <doctest/doctest.h>

#include <xent/core/step.h>
#include <xent/core/tape.h>
#include <xent/nn/compat/tensorflow.h>
#include <xent/ops/ops.h>

using namespace xent;
namespace losses = compat::tensorflow::losses;
using compat::Cause;

namespace {

const Tensor logits = Tensor::from({0, 1, 2, 0, -1, 3, 2, 2, 2}, {3, 3});
const Tensor labels = Tensor::from<int64_t>({2, 0, 1}, {3});
const Tensor onehot = Tensor::from({0, 0, 1, 1, 0, 0, 0, 1, 0}, {3, 3});

template <class F>
void check_refused(Cause cause, const std::string& type, const std::string& words, F&& call) {
  try {
    call();
    FAIL("not refused: ", words);
  } catch (const compat::Refused& refused) {
    CHECK(refused.cause() == cause);
    CHECK(refused.type() == type);
    CHECK_MESSAGE(std::string(refused.what()).find(words) != std::string::npos, refused.what());
  }
}

}  // namespace

TEST_CASE("scopes are unique, and get_losses takes the beginning of a name, or a regular expression") {
  const losses::Graph graph;
  const auto loss = [](const char* scope) { losses::sparse_softmax_cross_entropy(labels, logits, 1.0, scope); };
  for (const char* scope : {"head", "head", "head_1", "body/", "a.b"}) loss(scope);
  losses::softmax_cross_entropy(onehot, logits);
  losses::softmax_cross_entropy(onehot, logits);
  const auto count = [](const char* scope) { return losses::get_losses(scope).size(); };
  CHECK(losses::get_losses().size() == 7);
  CHECK(count("head") == 3);
  CHECK(count("head/") == 1);
  CHECK(count("head_1/") == 1);    // the second "head"
  CHECK(count("head_1_1/") == 1);  // since "head_1" was taken by then
  CHECK(count("head/value:0$") == 1);
  CHECK(count("ead") == 0);
  CHECK(count("(body|a.b)/") == 2);
  CHECK(count("softmax_cross_entropy_loss") == 2);
  CHECK(count("softmax_cross_entropy_loss_1/value") == 1);
  CHECK_THROWS_AS(loss("a b"), ArgumentError);
  CHECK_THROWS_AS(loss("_a"), ArgumentError);
  CHECK_THROWS_AS(loss(std::string(1000, 'a').c_str()), ArgumentError);
  CHECK_THROWS_AS(count("("), ArgumentError);
  CHECK_THROWS_AS(count(std::string(100'000, '.').c_str()), ArgumentError);
}

TEST_CASE("losses are collected where they are told to, and totalled with the regularization losses") {
  const losses::Graph graph;
  const Tensor first = losses::sparse_softmax_cross_entropy(labels, logits);
  const Tensor other = losses::sparse_softmax_cross_entropy(labels, logits, 1.0, {}, "aux");
  losses::sparse_softmax_cross_entropy(labels, logits, 1.0, {}, std::nullopt);
  losses::sparse_softmax_cross_entropy(labels, logits, 1.0, {}, "");
  losses::add_loss(Tensor::scalar(10));
  losses::add_regularization_loss(Tensor::scalar(0.5));
  REQUIRE(losses::get_losses().size() == 2);
  CHECK(losses::get_losses()[0].id() == first.id());
  REQUIRE(losses::get_losses({}, "aux").size() == 1);
  CHECK(losses::get_losses({}, "aux")[0].id() == other.id());
  CHECK(losses::get_losses({}, "").empty());
  CHECK(losses::get_regularization_losses().size() == 1);
  CHECK(losses::get_total_loss().item() == doctest::Approx(first.item() + 10.5));
  CHECK(losses::get_total_loss(false).item() == doctest::Approx(first.item() + 10));
}

TEST_CASE("graphs nest; without one losses are computed and cannot be asked for") {
  CHECK(losses::sparse_softmax_cross_entropy(labels, logits).item() > 0);
  CHECK_THROWS_AS(losses::get_losses(), ArgumentError);
  CHECK_THROWS_AS(losses::get_total_loss(), ArgumentError);
  CHECK_THROWS_AS(losses::add_loss(Tensor::scalar(1)), ArgumentError);
  const losses::Graph outer;
  {
    const losses::Graph inner;
    losses::sparse_softmax_cross_entropy(labels, logits);
    CHECK(losses::get_losses().size() == 1);
  }
  CHECK(losses::get_losses().empty());
}

TEST_CASE("a total of nothing, of several shapes or of several dtypes is refused; of f16 it is f16") {
  const losses::Graph graph;
  const auto add = [](const Shape& shape, DType dtype) { losses::add_loss(Tensor::ones(shape, dtype)); };
  const auto total = [] { return losses::get_total_loss(); };
  check_refused(Cause::no_losses, "ValueError", "at least one Tensor with the same dtype and shape", total);
  add({2, 5}, DType::f16);
  CHECK(total().shape() == Shape{2, 5});
  add({2, 5}, DType::f16);
  CHECK(total().to_vector<Float16>()[9].bits == Float16(2).bits);
  {
    const losses::Graph ranks;
    add({2, 5}, DType::f32), add({}, DType::f32);
    check_refused(Cause::shape, "ValueError", "Shapes must be equal rank, but are 2 and 0", total);
  }
  add({2, 4}, DType::f16);
  check_refused(Cause::shape, "ValueError", "Dimension 1 in both shapes must be equal, but are 5 and 4", total);
  add({2, 4}, DType::f64);
  check_refused(Cause::type, "TypeError", "don't all match", total);
}

TEST_CASE("the total loss is differentiable, and a Graph inside a Step collects anew at every call") {
  const Tensor x = logits.clone();
  const auto gradient = [](const Tensor& at) {
    Tape tape;
    tape.watch(at);
    const losses::Graph graph;
    losses::softmax_cross_entropy(onehot, at, Tensor::from({2, 0, 0.5}, {3}).slice(0, 3), 0.1);
    losses::sparse_softmax_cross_entropy(labels, at, 0.5);
    return tape.backward(losses::get_total_loss())[at];
  };
  const std::vector<float> wanted = gradient(x).to_vector<float>();
  const Tensor weights = Tensor::from({2, 0, 0.5}, {3});
  Step step([&](const Tensor& at) {
    Tape tape;
    tape.watch(at);
    const losses::Graph graph;
    losses::softmax_cross_entropy(onehot, at, weights, 0.1);
    losses::sparse_softmax_cross_entropy(labels, at, 0.5);
    return tape.backward(losses::get_total_loss())[at];
  });
  for (int call = 0; call < 4; ++call) CHECK(step(x).to_vector<float>() == wanted);
}
