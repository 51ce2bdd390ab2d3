// A row that one group of threads walks on CUDA has 2^30 elements at most: what every op says of a longer one, before
// it has launched anything. Shapes without elements show it, since a shape is refused or not whatever its batch.
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/cuda/row_limit.h>
#include <xent/ops/mxnet_labels.h>

#include "cuda_large.h"
#include "error_of.h"

namespace {

constexpr int64_t longest = int64_t{1} << 30, longer = longest + 1;

std::string limit(const std::string& op, const std::string& shape, const std::string& too_many) {
  return op + ": " + shape + " has " + too_many +
         "; on CUDA 2^30 is the most, on the CPU there is no limit: .to(Device::cpu())";
}
std::string classes(const std::string& op) { return limit(op, "[0, 1073741825]", "1073741825 classes"); }

Tensor none(const Shape& shape, DType dtype = DType::f32) { return Tensor::empty(shape, dtype, Device::cuda()); }
Tensor no_labels(const Shape& shape = {0}) { return none(shape, DType::u8); }

}  // namespace

TEST_CASE("2^30 is the longest row, and an int") {
  CHECK(cuda::row_length("op", {0, longest}, longest, "elements") == 1 << 30);
  CHECK(cuda::row_length("op", {0}, 0, "elements") == 0);
  CHECK(error_of<ShapeError>([] {
          cuda::row_length("op", {4, longer}, longer, "elements");
        }) == limit("op", "[4, 1073741825]", "1073741825 elements"));
  CHECK(error_of<ShapeError>([] { cuda::row_length("op", {0}, INT64_MAX, "elements"); }) ==
        limit("op", "[0]", "9223372036854775807 elements"));
}

TEST_CASE("softmax and log_softmax say what the longest row is, along any axis") {
  CHECK(error_of<ShapeError>([] { softmax(none({0, longer})); }) == classes("softmax"));
  CHECK(error_of<ShapeError>([] { log_softmax(none({0, longer})); }) == classes("log_softmax"));
  CHECK(error_of<ShapeError>([] {
          softmax(none({longer, 0}), 0);
        }) == limit("softmax", "[1073741825, 0]", "1073741825 classes"));
  CHECK(error_of<ShapeError>([] {
          softmax(none({longer, 0}), 1);
        }) == "no error");  // rows may be as many as there is memory for
  CHECK(error_of<ShapeError>([] { softmax(none({0, longest})); }) == "no error");
  CHECK(error_of<ShapeError>([] { softmax(Tensor::empty({0, longer})); }) == "no error");  // on the CPU
}

TEST_CASE("the loss, its gradient and its denominator say what the longest row is") {
  const auto with = [](const auto& call) {
    return error_of<ShapeError>([&] { call(none({0, longer}), no_labels()); });
  };
  CHECK(with([](const Tensor& x, const Tensor& labels) { softmax_cross_entropy(x, labels); }) ==
        classes("softmax_cross_entropy"));
  CHECK(error_of<ShapeError>([] {
          softmax_cross_entropy_with_grad(none({0, longer}), no_labels());
        }) == classes("softmax_cross_entropy_in_place"));
  CHECK(with([](const Tensor& x, const Tensor& labels) {
          softmax_cross_entropy_grad(Tensor::full({}, 1, DType::f32, Device::cuda()), x, labels, none({0, 2}));
        }) == classes("softmax_cross_entropy_grad"));
  CHECK(with([](const Tensor& x, const Tensor& labels) { softmax_cross_entropy_denominator(x.shape(), labels); }) ==
        classes("softmax_cross_entropy_denominator"));
  CHECK(error_of<ShapeError>([] { softmax_cross_entropy(none({0, longest}), no_labels()); }) == "no error");
  CHECK(error_of<ShapeError>([] {
          softmax_cross_entropy(none({0, longer, 2}), no_labels({0, longer}),
                                {.reduction = {.kind = Reduction::Kind::sample_mean}});
        }) == limit("softmax_cross_entropy", "[0, 1073741825, 2]", "1073741825 rows in a sample"));
}

TEST_CASE("layer_norm says what the longest row is: the product of the axes that it normalises over") {
  CHECK(error_of<ShapeError>([] { layer_norm(none({0, 2, longest})); }) == "no error");
  CHECK(error_of<ShapeError>([] {
          layer_norm(none({0, 2, longest}), {}, {}, {.axes = 2});
        }) == limit("layer_norm", "[0, 2, 1073741824]", "2147483648 elements in a row"));
}

TEST_CASE("argmax and the metrics say what the longest row is") {
  CHECK(error_of<ShapeError>([] {
          argmax(none({0, longer}));
        }) == limit("argmax", "[0, 1073741825]", "1073741825 elements along the axis"));
  const Tensor state = Tensor::full({2}, 0, DType::f64, Device::cuda());
  CHECK(error_of<ShapeError>([&] {
          accumulate_correct(state, none({0, longer}), no_labels());
        }) == classes("accumulate_correct"));
  CHECK(state.to_vector<double>() == std::vector<double>{0, 0});
}

TEST_CASE("random_shift_flip says how large images may be, and how many, and draws nothing") {
  const AtTheEnd scope;
  Generator generator(1, Device::cuda());
  const auto of = [&](const Shape& shape) {
    return error_of<ShapeError>([&] { random_shift_flip(none(shape), {}, generator); });
  };
  CHECK(of({0, longer, 1, 1}) == limit("random_shift_flip", "[0, 1073741825, 1, 1]", "1073741825 rows in an image"));
  CHECK(of({0, 1, longest, 2}) == limit("random_shift_flip", "[0, 1, 1073741824, 2]", "2147483648 elements in a row"));
  CHECK(of({longer, 0, 1, 1}) == limit("random_shift_flip", "[1073741825, 0, 1, 1]", "1073741825 images"));
  for (const Shape& shape : {Shape{0, longest, 1, 1}, Shape{0, 1, longest / 2, 2}}) CHECK(of(shape) == "no error");
  CHECK(generator.state().to_vector<int64_t>()[1] == 0);
}

TEST_CASE("SoftmaxCrossEntropyLoss of mxnet says how many labels there may be") {
  const AtTheEnd scope;
  CHECK(error_of<ShapeError>([] { apply(mxnet_labels_op, {no_labels({longer})}); }) ==
        limit("SoftmaxCrossEntropyLoss", "[1073741825]", "1073741825 labels"));
}
