// compat::composer::soft_cross_entropy does what MosaicML Composer's does. Long numbers are Composer's own.
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/nn/compat/composer.h>
#include <xent/nn/compat/torch.h>
#include <xent/xent.h>

#include "compat_checks.h"
#include "replay_mode.h"

using namespace xent;
using compat::composer::soft_cross_entropy;

namespace {

Tensor six_rows() {
  return Tensor::from(
      {1.4494741f, -1.4403604f,  -0.017466206f, -0.8691238f,  1.5044899f,  -0.958366f,  1.0047252f,  -0.41120878f,
       1.7160853f, -0.17579016f, -0.5503886f,   -1.0296223f,  0.21471739f, -1.3877094f, -1.2509022f, -0.64190215f,
       -1.217971f, -0.9004504f,  -0.6529776f,   -0.74566555f, 1.057349f,   -0.3105107f, 1.041525f,   0.40350989f},
      {6, 4});
}
// Every row sums to 0.5.
Tensor six_targets() {
  return Tensor::from(
      {0.057074692f, 0.2079806f,   0.07327233f, 0.16167238f, 0.11990541f,  0.11618965f, 0.14893678f, 0.11496816f,
       0.12897696f,  0.17708732f,  0.1266565f,  0.06727918f, 0.115065195f, 0.13874514f, 0.13241626f, 0.1137734f,
       0.116885714f, 0.030434804f, 0.07012736f, 0.28255212f, 0.20862924f,  0.16344051f, 0.11089582f, 0.017034456f},
      {6, 4});
}
Tensor four_weights() { return Tensor::from({0.5f, 2, 1, 0.25f}, {4}); }

// p = [1/4, 3/4] in every row
Tensor quarters(int64_t rows) {
  std::vector<float> values;
  for (int64_t r = 0; r < rows; ++r) values.insert(values.end(), {0, std::log(3.0f)});
  return Tensor::from(values, {rows, 2});
}
const double first = std::log(4.0), second = std::log(4.0 / 3);  // losses of the two classes

Tensor reduced(const Tensor& input, const Tensor& target, std::string_view reduction, const Tensor& weight = {}) {
  return soft_cross_entropy(input, target, weight, {}, -100, {}, reduction);
}

}  // namespace

TEST_CASE("a distribution with weights: value and gradients are Composer's, that of the target through the mean") {
  const Tensor x = six_rows(), q = six_targets();
  Tape tape;
  tape.watch(x);
  tape.watch(q);
  const Tensor loss = soft_cross_entropy(x, q, four_weights());
  check_near(loss, {2.0233536});
  const Gradients gradients = tape.backward(loss);
  check_near(slice_rows(gradients[x], 0, 1), {0.12486526, -0.1311843, 0.0065674265, -0.00024838798});
  check_near(slice_rows(gradients[q], 0, 1), {-0.6202128, 1.4690589, -0.07699418, -0.4541155});
}

TEST_CASE("the mean divides by the sum of the target: rows of zeros count for nothing") {
  const Tensor target = Tensor::from({1, 0, 0, 0, 0, 2}, {3, 2});
  check_near(soft_cross_entropy(quarters(3), target), {(first + 2 * second) / 3});
  check_near(reduced(quarters(3), target, "sum"), {first + 2 * second});
  check_near(reduced(quarters(3), target, "none"), {first, 0, 2 * second});
}

TEST_CASE("class weights are not in the denominator; one weight stretches; leading extents of 1 do not matter") {
  const Tensor target = Tensor::from({1, 0, 0, 1}, {2, 2});
  const auto weighted = [&](const Tensor& weight) { return soft_cross_entropy(quarters(2), target, weight); };
  check_near(weighted(Tensor::from({3, 5}, {2})), {(3 * first + 5 * second) / 2});
  check_near(weighted(Tensor::from({3, 5}, {1, 2})), {(3 * first + 5 * second) / 2});
  check_near(weighted(Tensor::from({3}, {1})), {3 * (first + second) / 2});
  check_near(weighted(Tensor::scalar(3)), {3 * (first + second) / 2});
  CHECK(refusal([&] { weighted(Tensor::ones({3})); }) ==
        "weight_shape: RuntimeError: The size of tensor a (2) must match the size of tensor b (3) at non-singleton "
        "dimension 1");
  CHECK(refusal([&] { weighted(Tensor::ones({2, 2})); }).starts_with("weight_shape: "));
}

TEST_CASE("classes lie on axis 1, with axes behind it too") {
  const Tensor x = Tensor::from({0, 0, std::log(3.0f), 0}, {1, 2, 2});  // p = [1/4, 3/4] and [1/2, 1/2]
  const Tensor target = Tensor::from({1, 0, 0, 1}, {1, 2, 2});
  const Tensor rows = reduced(x, target, "none", Tensor::from({1, 10}, {2}));
  CHECK(rows.shape() == Shape{1, 2});
  check_near(rows, {first, 10 * std::log(2.0)});
}

TEST_CASE("the loss has the dtype that input and target have in common; integers may be a one-hot target") {
  const Tensor one_hot = Tensor::from<int64_t>({1, 0, 0, 1}, {2, 2});
  check_near(soft_cross_entropy(quarters(2), one_hot), {(first + second) / 2});
  const auto common = [&](DType input, DType target) {
    return soft_cross_entropy(cast(quarters(2), input), cast(one_hot, target)).dtype();
  };
  CHECK(common(DType::f32, DType::u8) == DType::f32);
  CHECK(common(DType::f16, DType::i64) == DType::f16);
  CHECK(common(DType::f16, DType::f32) == DType::f32);
  CHECK(common(DType::f32, DType::f64) == DType::f64);
  CHECK(common(DType::f64, DType::f32) == DType::f64);
}

TEST_CASE("a target that sums to less than the rows warns, in a mean only") {
  const auto warned = [](const Tensor& target, std::string_view reduction) {
    Warnings warnings;
    reduced(quarters(2), target, reduction);
    return warnings.texts;
  };
  const Tensor half = Tensor::full({2, 2}, 0.25), whole = Tensor::full({2, 2}, 0.5), two = Tensor::ones({2, 2});
  CHECK(warned(half, "mean") == std::vector<std::string>{"Some targets have less than 1 total probability."});
  CHECK(warned(half, "sum").empty());
  CHECK(warned(half, "none").empty());
  CHECK(warned(whole, "mean").empty());
  CHECK(warned(two, "mean").empty());
  const Tensor almost = Tensor::from({0.1f, 0.9f, 0.3f, 0.7f}, {2, 2});  // in f64 their sum is 2 - 2.2e-8
  CHECK(warned(almost, "mean").empty());
}

TEST_CASE("an ignore_index beside a distribution warns and does nothing") {
  const Tensor target = Tensor::full({2, 2}, 0.5);
  Warnings warnings;
  CHECK(soft_cross_entropy(quarters(2), target, {}, {}, 1).item() == soft_cross_entropy(quarters(2), target).item());
  CHECK(warnings.texts == std::vector<std::string>{"ignore_index not supported when using dense labels. Ignoring "
                                                   "targets with 0 probability."});
}

TEST_CASE("a mean over targets that sum to nothing is refused, also over no rows; a sum is not; NaN passes") {
  const auto mean_of = [](const Tensor& target) {
    return refusal([&] { soft_cross_entropy(Tensor::zeros(target.shape()), target); });
  };
  const std::string refused = "no_nonzero_target: ValueError: No targets have nonzero probability";
  CHECK(mean_of(Tensor::zeros({2, 2})) == refused);
  CHECK(mean_of(Tensor::full({2, 2}, -1)) == refused);
  CHECK(mean_of(Tensor::zeros({0, 2})) == refused);
  check_near(reduced(quarters(2), Tensor::zeros({2, 2}), "sum"), {0});
  check_near(reduced(Tensor::zeros({0, 2}), Tensor::zeros({0, 2}), "sum"), {0});
  CHECK(reduced(Tensor::zeros({0, 2}), Tensor::zeros({0, 2}), "none").shape() == Shape{0});
  check_near(soft_cross_entropy(quarters(1), Tensor::from({not_a_number, 1}, {1, 2})), {not_a_number});
}

TEST_CASE("inside a Step nothing is read: it does not warn, and a sum of 0 is an error at replay too") {
  const Mode mode(Replay::on);
  Step step([](const Tensor& x, const Tensor& q) { return soft_cross_entropy(x, q); });
  Warnings warnings;
  const Tensor half = Tensor::full({2, 2}, 0.25);
  for (int call = 0; call < 4; ++call) check_near(step(quarters(2), half), {(first + second) / 2});
  CHECK(warnings.texts.empty());
  CHECK_THROWS_AS(step(quarters(2), Tensor::zeros({2, 2})), ArgumentError);
}

TEST_CASE("classes are PyTorch's cross_entropy, deprecated arguments included") {
  const Tensor x = six_rows(), labels = Tensor::from<int64_t>({0, 2, -100, 3, 2, 0}, {6});
  check_near(soft_cross_entropy(x, labels, four_weights()), {1.0246136});
  Warnings warnings;
  const Tensor others = Tensor::from<int64_t>({0, 2, 2, 3, 2, 0}, {6});
  CHECK(soft_cross_entropy(x, others, {}, false, 2).item() ==
        compat::torch::cross_entropy(x, others, {}, {}, 2, {}, "sum").item());
  CHECK(warnings.texts.size() == 1);
  CHECK_THROWS_AS(soft_cross_entropy(x, Tensor::full({6}, 4, DType::i64)), LabelError);
}

TEST_CASE("what Composer refuses is refused in its words") {
  const Tensor x = Tensor::zeros({2, 3, 4}), dense = Tensor::ones({2, 3, 4});
  CHECK(refusal([&] { soft_cross_entropy(x, Tensor::zeros({2}, DType::i64)); }) ==
        "shape: RuntimeError: Unable to infer indices or one_hot. Targets has shape torch.Size([2]) and the inputs to "
        "cross entropy has shape torch.Size([2, 3, 4]). For one_hot, expect targets.shape == inputs.shape. For "
        "indices, expect inputs.ndim == targets.ndim + 1");
  CHECK(refusal([&] { reduced(x, dense, "avg"); }) == "reduction: ValueError: avg reduction not supported.");
  CHECK(refusal([&] { reduced(x, dense, "elementwise_mean"); }).starts_with("reduction: "));
  CHECK(refusal([&] { soft_cross_entropy(x, dense, {}, true); }) ==
        "reduction: AssertionError: size_average is deprecated");
  CHECK(refusal([&] { soft_cross_entropy(x, dense, {}, {}, -100, false); }) ==
        "reduction: AssertionError: reduce is deprecated");
  CHECK(refusal([&] { soft_cross_entropy(Tensor::zeros({3}), Tensor::ones({3})); }).starts_with("rank: IndexError"));
  CHECK_THROWS_AS(soft_cross_entropy(x, {}), ArgumentError);
}
