// What ONNX Runtime's losses refuse: its own errors with its words, and what it leaves undefined.
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/nn/compat/onnxruntime.h>
#include <xent/nn/compat/refused.h>
#include <xent/xent.h>

using namespace xent;
using namespace xent::compat;
namespace ort = xent::compat::onnxruntime;

namespace {

// Six rows of four classes.
const Tensor& scores() {
  static const Tensor scores = Tensor::zeros({6, 4});
  return scores;
}
Tensor labels(const Shape& shape = {6}, DType dtype = DType::i64) { return Tensor::zeros(shape, dtype); }
Tensor dY() { return Tensor::ones({}); }

void check_refused(Cause cause, const std::string& type, const std::string& words, const std::function<void()>& call) {
  CAPTURE(words);
  try {
    call();
    FAIL_CHECK("not refused");
  } catch (const Refused& refused) {
    CHECK(name(refused.cause()) == name(cause));
    CHECK(refused.type() == type);
    CHECK_MESSAGE(std::string(refused.what()).find(words) != std::string::npos, refused.what());
  }
}

// A check in a kernel, which reaches Python as RuntimeException.
void check_enforced(Cause cause, const std::string& words, const std::function<void()>& call) {
  check_refused(cause, "RuntimeException", words, call);
}

}  // namespace

TEST_CASE("an unknown reduction is refused by all eight operators; upper case is unknown") {
  const std::vector<std::function<void()>> calls = {
      [] { ort::softmax_cross_entropy_loss(scores(), labels(), {}, {}, "avg"); },
      [] { ort::softmax_cross_entropy_loss_internal(scores(), labels(), {}, {}, "Mean"); },
      [] { ort::softmax_cross_entropy_loss_grad(dY(), scores(), labels(), {}, ""); },
      [] { ort::softmax_cross_entropy_loss_internal_grad(dY(), scores(), labels(), {}, {}, {}, "avg"); },
      [] { ort::softmax_cross_entropy(scores(), scores(), "avg"); },
      [] { ort::softmax_cross_entropy_grad(dY(), scores(), scores(), "avg"); },
      [] { ort::sparse_softmax_cross_entropy(scores(), labels(), {}, "avg"); },
      [] { ort::sparse_softmax_cross_entropy_grad(dY(), scores(), labels(), {}, "avg"); },
      [] { ort::cuda::softmax_cross_entropy_loss_internal(scores(), labels(), {}, {}, "avg"); }};
  for (const auto& call : calls) check_enforced(Cause::reduction, "Unknown ReductionType String", call);
}

TEST_CASE("shapes that do not fit are refused in the original's words, by the losses and their Grads") {
  const std::vector<std::function<void(const Tensor&, const Tensor&)>> calls = {
      [](const Tensor& x, const Tensor& y) { ort::softmax_cross_entropy_loss(x, y); },
      [](const Tensor& x, const Tensor& y) { ort::softmax_cross_entropy_loss_internal(x, y); },
      [](const Tensor& x, const Tensor& y) { ort::softmax_cross_entropy_loss_grad(dY(), x, y); },
      [](const Tensor& x, const Tensor& y) { ort::softmax_cross_entropy_loss_internal_grad(dY(), x, y); },
      [](const Tensor& x, const Tensor& y) { ort::sparse_softmax_cross_entropy(x, y); },
      [](const Tensor& x, const Tensor& y) { ort::sparse_softmax_cross_entropy_grad(dY(), x, y); }};
  for (const auto& call : calls) {
    check_enforced(Cause::rank, "logit_shape must be (1 + label_shape)", [&] { call(scores(), labels({2, 3})); });
    check_enforced(Cause::shape, "The shape of logit and label does not match", [&] { call(scores(), labels({5})); });
  }
  const Tensor images = Tensor::zeros({2, 3, 4});  // classes on axis 1 for the ones, on the last for the others
  CHECK_NOTHROW(ort::softmax_cross_entropy_loss(images, labels({2, 4})));
  CHECK_NOTHROW(ort::sparse_softmax_cross_entropy(images, labels({2, 3})));
  check_enforced(Cause::shape, "does not match", [&] { ort::softmax_cross_entropy_loss(images, labels({2, 3})); });
  check_enforced(Cause::shape, "does not match", [&] { ort::sparse_softmax_cross_entropy(images, labels({2, 4})); });
  check_enforced(Cause::shape, "The shape of logit and label is not identical", [] {
    ort::softmax_cross_entropy(scores(), Tensor::zeros({6, 3}));
  });
  check_enforced(Cause::shape, "The shape of probability and label is not identical", [] {
    ort::softmax_cross_entropy_grad(dY(), scores(), Tensor::zeros({6, 3}));
  });
}

TEST_CASE("weights that do not fit are refused: the rank in the original's words, the length in its successor's") {
  check_enforced(Cause::weight_shape, "Weights tensor is not 1-D", [] {
    ort::softmax_cross_entropy_loss(scores(), labels(), Tensor::ones({2, 2}));
  });
  check_enforced(Cause::weight_shape, "Weights tensor is not 1-D",
                 [] { ort::softmax_cross_entropy_loss_grad(dY(), scores(), labels(), Tensor::ones({})); });
  for (const int64_t size : {2, 5})
    check_enforced(Cause::weight_shape,
                   "Weight tensor size (" + std::to_string(size) + ") must equal the number of classes (4)",
                   [&] { ort::softmax_cross_entropy_loss(scores(), labels(), Tensor::ones({size})); });
  check_enforced(Cause::weight_shape, "The shape of weight and label is different",
                 [] { ort::sparse_softmax_cross_entropy(scores(), labels(), Tensor::ones({2})); });
  check_enforced(Cause::weight_shape, "The shape of weight and label is different",
                 [] { ort::sparse_softmax_cross_entropy_grad(dY(), scores(), labels(), Tensor::ones({4})); });
}

TEST_CASE("an ignore_index that is no scalar, and a bias of another size, are refused") {
  const Tensor two = Tensor::zeros({2}, DType::i64), nested = Tensor::zeros({1, 1}, DType::i64);
  for (const Tensor& ignore : {two, nested})
    check_enforced(Cause::ignore_index, "ignore_index should be a scalar",
                   [&] { ort::softmax_cross_entropy_loss_internal(scores(), labels(), {}, ignore); });
  check_enforced(Cause::shape, "bias is [6, 3]", [] {
    ort::softmax_cross_entropy_loss_internal_grad(dY(), scores(), labels(), {}, {}, Tensor::zeros({6, 3}));
  });
}

TEST_CASE("dtypes that the operators are not defined for are refused") {
  const auto check_type = [](Cause cause, const std::string& words, const std::function<void()>& call) {
    check_refused(cause, "InvalidGraph", words, call);
  };
  check_type(Cause::type, "logits of i32", [] {
    ort::softmax_cross_entropy_loss(labels({6, 4}, DType::i32), labels());
  });
  check_type(Cause::label_dtype, "labels of u8",
             [] { ort::softmax_cross_entropy_loss(scores(), labels({6}, DType::u8)); });
  check_type(Cause::label_dtype, "label of i32",
             [] { ort::sparse_softmax_cross_entropy(scores(), labels({6}, DType::i32)); });
  check_type(Cause::target_dtype, "label of f64", [] {
    ort::softmax_cross_entropy(scores(), Tensor::zeros({6, 4}, DType::f64));
  });
  check_type(Cause::type, "bound to different types",
             [] { ort::softmax_cross_entropy_loss(scores(), labels(), Tensor::ones({4}, DType::f64)); });
  check_type(Cause::type, "ignore_index of i32",
             [] { ort::softmax_cross_entropy_loss_internal(scores(), labels(), {}, Tensor::zeros({}, DType::i32)); });
  check_type(Cause::type, "output_type i64",
             [] { ort::softmax_cross_entropy_loss_internal(scores(), labels(), {}, {}, "mean", DType::i64); });
}

TEST_CASE("a label out of range is a LabelError, in forward and Grad, with and without weights") {
  for (const int64_t label : {int64_t{4}, int64_t{-2}, int64_t{1} << 32 | 1, INT64_MIN}) {
    CAPTURE(label);
    const Tensor bad = Tensor::from<int64_t>({0, 1, 2, label, 0, 0}, {6});
    for (const Tensor& weights : {Tensor(), Tensor::ones({4})}) {
      CHECK_THROWS_AS(ort::softmax_cross_entropy_loss(scores(), bad, weights), LabelError);
      CHECK_THROWS_AS(ort::softmax_cross_entropy_loss_grad(dY(), scores(), bad, weights), LabelError);
      CHECK_THROWS_AS(ort::cuda::softmax_cross_entropy_loss_internal(scores(), bad, weights), LabelError);
    }
    CHECK_THROWS_AS(ort::sparse_softmax_cross_entropy(scores(), bad), LabelError);
    CHECK_THROWS_AS(ort::sparse_softmax_cross_entropy_grad(dY(), scores(), bad), LabelError);
  }
}

TEST_CASE("what the original reads out of bounds, divides by zero or never writes is refused") {
  check_enforced(Cause::rank, "label must be at least 1-D",
                 [] { ort::softmax_cross_entropy_loss(Tensor::zeros({4}), labels({})); });
  check_enforced(Cause::shape, "label tensor must not be empty", [] {
    ort::softmax_cross_entropy_loss(Tensor::zeros({2, 4, 0}), labels({2, 0}));
  });
  check_enforced(Cause::shape, "dY is [5]",
                 [] { ort::softmax_cross_entropy_loss_grad(Tensor::ones({5}), scores(), labels(), {}, "none"); });
  check_enforced(Cause::shape, "dY is [0]",
                 [] { ort::sparse_softmax_cross_entropy_grad(Tensor::ones({0}), scores(), labels()); });
  check_enforced(Cause::reduction, "never written",
                 [] { ort::softmax_cross_entropy_grad(dY(), scores(), scores(), "none"); });
  check_enforced(Cause::rank, "at least 1-D", [] { ort::softmax_cross_entropy(dY(), dY()); });
}

TEST_CASE("an empty handle is an ArgumentError") {
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss({}, labels()), ArgumentError);
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss_internal(scores(), {}), ArgumentError);
  CHECK_THROWS_AS(ort::softmax_cross_entropy_loss_grad({}, scores(), labels()), ArgumentError);
  CHECK_THROWS_AS(ort::softmax_cross_entropy({}, scores()), ArgumentError);
  CHECK_THROWS_AS(ort::sparse_softmax_cross_entropy(scores(), {}), ArgumentError);
}
