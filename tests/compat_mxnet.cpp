// compat::mxnet::SoftmaxCrossEntropyLoss does what MXNet's gluon loss does. Long numbers are MXNet's own.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/nn/compat/mxnet.h>
#include <xent/xent.h>

#include "compat_checks.h"
#include "replay_mode.h"

using namespace xent;
using Loss = compat::mxnet::SoftmaxCrossEntropyLoss;

namespace {

Tensor four_rows() {
  return Tensor::from({0.35109997f, 3.4956253f, 0.59343797f, -0.61802226f, 1.2644807f,   0.09067523f, -0.48732045f,
                       1.8364816f,  1.163945f,  0.09654636f, -1.2760804f,  0.103799246f, 0.08192774f, 1.4858946f,
                       0.56497186f, 1.8509552f, 0.7951128f,  0.9096528f,   0.87592894f,  -0.21934806f},
                      {4, 5});
}
Tensor four_labels() { return Tensor::from({0, 1, 2, 3}, {4}); }

// One loss per row, by log_softmax and pick.
std::vector<double> row_losses(const Tensor& x, const std::vector<int64_t>& classes) {
  return numbers(scale(pick(log_softmax(cast(x, DType::f64)), Tensor::from(classes, {x.shape()[0]})), -1));
}

double mean_of(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += value;
  return total / static_cast<double>(values.size());
}

}  // namespace

TEST_CASE("the loss is one number per sample, not a scalar: value and gradient are MXNet's") {
  const Tensor pred = Tensor::from({0, 2, 1, 4}, {2, 2}), label = Tensor::from({0, 1}, {2});
  Tape tape;
  tape.watch(pred);
  const Tensor loss = Loss()(pred, label);
  CHECK(loss.shape() == Shape{2});
  check_near(loss, {2.126928, 0.04858733});
  check_near(tape.backward(loss, {.upstream = Tensor::ones({2})})[pred],
             {-0.8807971, 0.880797, 0.047425874, -0.047425866});
  check_near(Loss()(pred, label, Tensor::from({0.5f, 1}, {2, 1})), {1.063464, 0.04858733});
}

TEST_CASE("labels are cut off at the point and clipped to the classes there are (F50)") {
  check_near(Loss()(four_rows(), Tensor::from({-1, 0, 5, 3.9f}, {4})), {3.3448045, 2.417908, 1.5928416, 1.782104});
  const std::vector<double> clipped = row_losses(four_rows(), {0, 4, 0, 4});
  check_near(Loss()(four_rows(), Tensor::from<int64_t>({-100, 5, INT32_MIN, INT32_MAX}, {4})), clipped);
  check_near(Loss()(four_rows(), Tensor::from({-0.9f, 1e9f, -1e9f, 4.999f}, {4})), clipped);
}

TEST_CASE("labels of every dtype give the same loss") {
  const std::vector<double> expected = row_losses(four_rows(), {0, 1, 2, 3});
  for (const DType dtype : {DType::u8, DType::i32, DType::i64, DType::f32, DType::f64, DType::f16, DType::bf16})
    check_near(Loss()(four_rows(), cast(four_labels(), dtype)), expected);
}

TEST_CASE("labels that no int holds are a LabelError, where MXNet's result is undefined") {
  for (const float label : {not_a_number, infinity, -infinity, 1e20f, 2147483648.0f, -2147483904.0f})
    CHECK_THROWS_AS(Loss()(four_rows(), Tensor::from({0, label, 2, 3}, {4})), LabelError);
  CHECK_THROWS_AS(Loss()(four_rows(), Tensor::from<int64_t>({0, 1, 2, int64_t{1} << 31}, {4})), LabelError);
  try {
    Loss()(four_rows(), Tensor::from({0, 1, 1e20f, 3}, {4}));
    FAIL("accepted");
  } catch (const LabelError& error) {
    CHECK(std::string(error.what()).find("row 2: label 1.0000000200408773e+20") != std::string::npos);
  }
}

TEST_CASE("a Step's replay clips other labels, and refuses NaN") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x, const Tensor& label) { return Loss()(x, label); });
  for (int call = 0; call < 3; ++call) step(four_rows(), four_labels());
  check_near(step(four_rows(), Tensor::from({9, -9, 2.5f, 3}, {4})), row_losses(four_rows(), {4, 0, 2, 3}));
  CHECK_THROWS_AS(step(four_rows(), Tensor::from({0, 1, not_a_number, 3}, {4})), LabelError);
}

TEST_CASE("classes on any axis: the mean is over the other axes but batch_axis (F14)") {
  const Tensor x = normal_sample({2, 3, 4}, DType::f32, 1), label = label_sample({2, 4}, 3, DType::i32, 2);
  const std::vector<int32_t> y = label.to_vector<int32_t>();
  const std::vector<double> all =
      row_losses(reshape(permute(x, {0, 2, 1}), {8, 3}), std::vector<int64_t>(y.begin(), y.end()));
  std::vector<double> by_first, by_last;
  for (size_t b = 0; b < 2; ++b)
    by_first.push_back(mean_of({all.begin() + 4 * static_cast<long>(b), all.begin() + 4 * static_cast<long>(b + 1)}));
  for (size_t b = 0; b < 4; ++b) by_last.push_back((all[b] + all[b + 4]) / 2);
  check_near(Loss(1)(x, label), by_first);
  check_near(Loss(-2)(x, reshape(label, {2, 1, 4})), by_first);
  check_near(Loss(1, true, false, {}, 2)(x, label), by_last);
  check_near(Loss(1, true, false, {}, -1)(x, label), by_last);
  const Tensor one = Loss(1, true, false, {}, 1)(x, label);  // the losses keep the class axis, with an extent of 1
  CHECK(one.shape() == Shape{1});
  check_near(one, {mean_of(all)});
}

TEST_CASE("a distribution may have any shape of as many elements, and gets a gradient of its own shape") {
  const Tensor pred = Tensor::from({0, std::log(3.0f), 0, std::log(3.0f)}, {2, 2});
  const Tensor label = Tensor::from({0.5f, 0.25f, 1, 1}, {4, 1});
  const double first = std::log(4.0), second = std::log(4.0 / 3);
  Tape tape;
  tape.watch(label);
  tape.watch(pred);
  const Tensor loss = Loss(-1, false)(pred, label);
  check_near(loss, {0.5 * first + 0.25 * second, first + second});
  const Gradients gradients = tape.backward(loss, {.upstream = Tensor::ones({2})});
  CHECK(gradients[label].shape() == Shape{4, 1});
  check_near(gradients[label], {first, second, first, second});
  check_near(gradients[pred], {0.75 * 0.25 - 0.5, 0.75 * 0.75 - 0.25, 2 * 0.25 - 1, 2 * 0.75 - 1});
}

TEST_CASE("from_logits: pred is log-probabilities, of which no softmax is taken") {
  const Tensor pred = Tensor::from({-1, -2, -3, -4}, {2, 2});
  check_near(Loss(-1, true, true)(pred, Tensor::from({1, 0}, {2})), {2, 3});
  check_near(Loss(-1, false, true)(pred, Tensor::from({0.5f, 1, 2, 0}, {2, 2})), {2.5, 6});
  Tape tape;
  tape.watch(pred);
  const Tensor loss = Loss(-1, true, true)(pred, Tensor::from({1, 0}, {2}));
  check_near(tape.backward(loss, {.upstream = Tensor::ones({2})})[pred], {0, -1, -1, 0});
}

TEST_CASE("weight scales the loss, by 0 too; sample weights never enter the denominator") {
  const std::vector<double> rows = row_losses(four_rows(), {0, 1, 2, 3});
  check_near(Loss(-1, true, false, 0.3)(four_rows(), four_labels()),
             {0.3 * rows[0], 0.3 * rows[1], 0.3 * rows[2], 0.3 * rows[3]});
  check_near(Loss(-1, true, false, 0)(four_rows(), four_labels()), {0, 0, 0, 0});
  const Tensor x = reshape(four_rows(), {2, 2, 5}), label = reshape(four_labels(), {2, 2});
  const Tensor weight = Tensor::from({1, 3, 0, 2}, {2, 2, 1});
  check_near(Loss()(x, label, weight), {(rows[0] + 3 * rows[1]) / 2, 2 * rows[3] / 2});
  Tape tape;
  tape.watch(weight);
  const Tensor loss = Loss(-1, true, false, 2.0)(x, label, weight);
  check_near(tape.backward(loss, {.upstream = Tensor::ones({2})})[weight], rows);
}

TEST_CASE("one weight per sample stretches over its rows") {
  const std::vector<double> rows = row_losses(four_rows(), {0, 1, 2, 3});
  const Tensor x = reshape(four_rows(), {2, 2, 5}), label = reshape(four_labels(), {2, 2});
  const Tensor weight = Tensor::from({5, 7}, {2, 1, 1});
  Tape tape;
  tape.watch(weight);
  const Tensor loss = Loss()(x, label, weight);
  check_near(loss, {5 * (rows[0] + rows[1]) / 2, 7 * (rows[2] + rows[3]) / 2});
  check_near(tape.backward(loss, {.upstream = Tensor::ones({2})})[weight],
             {(rows[0] + rows[1]) / 2, (rows[2] + rows[3]) / 2});
}

TEST_CASE("sample weights of shape [N] are stretched to [N, N]: every loss counts with their mean") {
  const Tensor pred = four_rows(), weight = Tensor::from({0.5243846f, 1.1224655f, 1.3043453f, 1.6340051f}, {4});
  Tape tape;
  tape.watch(pred);
  tape.watch(weight);
  const Tensor loss = Loss()(pred, four_labels(), weight);
  check_near(loss, {3.8341498, 3.4342048, 2.3795881, 2.042826});
  const Gradients gradients = tape.backward(loss, {.upstream = Tensor::ones({4})});
  check_near(slice_rows(gradients[pred], 0, 1), {-1.1058733, 0.9382491, 0.05151269, 0.015338531, 0.10077305});
  const double mean = mean_of(row_losses(pred, {0, 1, 2, 3}));
  check_near(gradients[weight], {mean, mean, mean, mean});
}

TEST_CASE("an infinite loss with weight 0 is NaN") {
  const Tensor pred = Tensor::from({-infinity, 0, -infinity, 0}, {2, 2});
  check_near(Loss()(pred, Tensor::from({0, 1}, {2}), Tensor::from({0, 0}, {2, 1})), {not_a_number, 0});
  check_near(Loss(-1, true, false, 0)(pred, Tensor::from({0, 1}, {2})), {not_a_number, 0});
}

TEST_CASE("the loss has pred's dtype, with stretched weights too") {
  for (const DType dtype : {DType::f16, DType::f32, DType::f64}) {
    const Tensor pred = cast(four_rows(), dtype), label = cast(four_labels(), dtype);
    CHECK(Loss()(pred, label).dtype() == dtype);
    const Tensor weighted = Loss()(pred, label, Tensor::full({4}, 2, dtype));
    CHECK(weighted.dtype() == dtype);
    check_near(weighted, numbers(scale(cast(Loss()(pred, label), DType::f64), 2)), 2e-3);
  }
}

TEST_CASE("no samples have no losses; samples without rows have a mean of NaN") {
  CHECK(Loss()(Tensor::zeros({0, 3}), Tensor::zeros({0})).shape() == Shape{0});
  check_near(Loss()(Tensor::zeros({2, 0, 3}), Tensor::zeros({2, 0})), {not_a_number, not_a_number});
}

TEST_CASE("what MXNet refuses is refused in its words") {
  const Tensor pred = Tensor::zeros({4, 5}), deep = Tensor::zeros({4, 3, 5}), labels = Tensor::zeros({4});
  CHECK(refusal([&] { Loss(2)(pred, labels); }) ==
        "axis: MXNetError: Check failed: axis < ndim && axis >= -ndim: axis 2 exceeds the input dimension of 2");
  CHECK(refusal([&] { Loss(INT64_MIN)(pred, labels); }).starts_with("axis: "));
  CHECK(refusal([&] { Loss(-1, true, false, {}, 5)(pred, labels); }) ==
        "axis: MXNetError: Check failed: axes[axes.ndim()-1] < ishape.ndim() (5 vs. 2) : Reduction axis 5 Exceeds "
        "input dimensions [4,1]");
  CHECK(refusal([&] { Loss(-1, true, false, {}, INT64_MIN)(pred, labels); }).starts_with("axis: "));
  CHECK(refusal([&] { Loss()(pred, Tensor::zeros({3})); }) ==
        "shape: MXNetError: Shape inconsistent, Provided = [3], inferred shape=[4]");
  CHECK(refusal([&] {
          Loss()(pred, Tensor::zeros({4, 5}));
        }) == "shape: MXNetError: Shape inconsistent, Provided = [4,5], inferred shape=[4,1]");
  CHECK(refusal([&] {
          Loss(-1, false)(pred, Tensor::zeros({4, 4}));
        }) ==
        "shape: MXNetError: NDArray.Reshape: Check failed: shape_.Size() >= shape.Size() (16 vs. 20) : target shape "
        "size is larger than the current shape");
  CHECK(refusal([&] { Loss(-1, false)(pred, Tensor::zeros({4, 6})); }).starts_with("shape: "));
  CHECK(refusal([&] { Loss(-1, false)(pred, Tensor::zeros({4, 5}, DType::i64)); }).starts_with("target_dtype: "));
  CHECK(refusal([&] {
          Loss()(deep, Tensor::zeros({4, 3}), Tensor::ones({4, 1}));
        }) ==
        "weight_shape: MXNetError: Check failed: l == 1 || r == 1: operands could not be broadcast together with "
        "shapes [4,3,1] [4,1]");
  CHECK(refusal([&] { Loss()(pred, labels, Tensor::ones({4, 1}, DType::f64)); }).starts_with("type: "));
  CHECK_THROWS_AS(Loss()(pred, {}), ArgumentError);
}
