// tf.losses of TensorFlow r1.4.
#include <xent/nn/compat/tensorflow.h>

#include "outcome.h"

namespace conformance {

using namespace xent;
namespace losses = compat::tensorflow::losses;

namespace {

using losses::Weights;

struct Arguments {
  Weights weights = 1.0;
  double label_smoothing = 0;
  std::string_view reduction = losses::Reduction::SUM_BY_NONZERO_WEIGHTS;
};

Outcome dense(const Tensor& q, const Tensor& x, const Arguments& a = {}) {
  return on_tape(
      x, [&] { return losses::softmax_cross_entropy(q, x, a.weights, a.label_smoothing, {}, "losses", a.reduction); });
}

Outcome sparse(const Tensor& y, const Tensor& x, const Arguments& a = {}) {
  return on_tape(x, [&] { return losses::sparse_softmax_cross_entropy(y, x, a.weights, {}, "losses", a.reduction); });
}

}  // namespace

System tensorflow() {
  using Reduction = losses::Reduction;
  const Tensor x = quarters(), both = matrix({{1, 0}, {0, 1}}), y = labels({0, 1});
  return {
      "TensorFlow",
      "tf.losses.softmax_cross_entropy and sparse_softmax_cross_entropy r1.4; the default divides by the number of "
      "weights that are not 0.",
      {
          {"weights 0", "loss 0, gradient 0", gives({0}, {0, 0, 0, 0}), [=] { return sparse(y, x, {.weights = 0.0}); }},
          {"weights -2 and 1", "divides by 2, their number", gives({-ln4 / 2}, {0.75, -0.75, 0.375, -0.375}),
           [=] {
             return sparse(y, x, {.weights = vector({-2, 1})});
           }},
          {"weights -2 and 1, weighted_mean", "a total below 0: loss 0, gradient 0", gives({0}, {0, 0, 0, 0}),
           [=] {
             return sparse(y, x, {.weights = vector({-2, 1}), .reduction = Reduction::MEAN});
           }},
          {"weights -1 and 1, weighted_mean", "a total of 0: loss 0, gradient 0", gives({0}, {0, 0, 0, 0}),
           [=] {
             return sparse(y, x, {.weights = vector({-1, 1}), .reduction = Reduction::MEAN});
           }},
          {"label -100", "InvalidArgumentError: Received a label value of -100 which is outside the valid range",
           raises("LabelError", "label -100 is not in [0, 2)"),
           [=] {
             return sparse(labels({0, -100}), x);
           }},
          {"weight 0 at an infinite loss", "0 times inf: NaN", gives({nan}, {0, 0, 0.75, -0.75}),
           [] {
             return sparse(labels({0, 1}), matrix({{-inf, 0}, {ln3, 0}}), {.weights = vector({0, 1})});
           }},
          {"label -1", "InvalidArgumentError: Received a label value of -1 which is outside the valid range",
           raises("LabelError", "label -1 is not in [0, 2)"),
           [=] {
             return sparse(labels({0, -1}), x);
           }},
          {"label 2 of weight 0", "InvalidArgumentError, whatever its weight",
           raises("LabelError", "label 2 is not in [0, 2)"),
           [=] {
             return sparse(labels({0, 2}), x, {.weights = vector({1, 0})});
           }},
          {"N = 0", "0", gives({0}, {}), [] { return sparse(labels({}), matrix({})); }},
          {"N = 0, weighted_mean", "0", gives({0}, {}),
           [] { return sparse(labels({}), matrix({}), {.reduction = Reduction::MEAN}); }},
          {"C = 1", "loss 0, gradient 0", gives({0}, {0, 0}),
           [] {
             return sparse(labels({0, 0}), matrix({{5}, {7}}));
           }},
          {"C = 1, dense, q 3", "loss 0, gradient 1 - q", gives({0}, {-2}),
           [] { return dense(matrix({{3}}), matrix({{5}})); }},
          {"-inf at the label", "loss inf, gradient finite", gives({inf}, {-1, 1}),
           [] {
             return sparse(labels({0}), matrix({{-inf, 0}}));
           }},
          {"+inf", "NaN in the row", gives({nan}, {nan, nan}),
           [] {
             return sparse(labels({0}), matrix({{inf, 0}}));
           }},
          {"NaN in a row of weight 0", "0 times NaN: NaN", gives({nan}, {nan, nan, 0.75, -0.75}),
           [] {
             return sparse(labels({0, 1}), matrix({{nan, 0}, {ln3, 0}}), {.weights = vector({0, 1})});
           }},
          {"dense: q sums to 2", "gradient p - q, which is not the derivative", gives({ln4 + ln43}, {-0.75, -0.25}),
           [] {
             return dense(matrix({{1, 1}}), matrix({{0, ln3}}));
           }},
          {"dense: q 0 at a logit of -inf", "0 times inf: NaN; gradient p - q", gives({nan}, {0, 0}),
           [] {
             return dense(matrix({{0, 1}}), matrix({{-inf, 0}}));
           }},
          {"label_smoothing 1.5", "accepted: q is -0.5 + 0.75 and 0.75", gives({0.25 * ln4 + 0.75 * ln43}, {0, 0}),
           [] {
             return dense(matrix({{1, 0}}), matrix({{0, ln3}}), {.label_smoothing = 1.5});
           }},
          {"label_smoothing -0.5", "taken for 0", gives({ln4}, {-0.375, 0.375, 0.375, -0.375}),
           [=] { return dense(both, x, {.label_smoothing = -0.5}); }},
          {"label_smoothing 0.5, logits [1, 1, 2]", "divided by the extent of axis 1: q is 0.5 + 0.5 and 0.5",
           gives({ln4 + 0.5 * ln43}, {-0.75, 0.25}),
           [] {
             return dense(matrix({{1, 0}}).reshape({1, 1, 2}), matrix({{0, ln3}}).reshape({1, 1, 2}),
                          {.label_smoothing = 0.5});
           }},
          {"weights [3] for two rows", "ValueError: weights can not be broadcast to values. Mismatch at dim 0. ...",
           raises("ValueError", "weights can not be broadcast to values. Mismatch at dim 0"),
           [=] {
             return sparse(y, x, {.weights = vector({1, 1, 1})});
           }},
          {"dense: weights [2, 1]",
           "ValueError: weights can not be broadcast to values. values.rank=1. weights.rank=2. ...",
           raises("ValueError", "values.rank=1. weights.rank=2"),
           [=] {
             return dense(both, x, {.weights = matrix({{1}, {1}})});
           }},
          {"sparse: weights [2, 1]", "squeezed", gives({ln4}, {0, 0, 0.75, -0.75}),
           [=] {
             return sparse(y, x, {.weights = matrix({{0}, {1}}), .reduction = "weighted_sum"});
           }},
          {"weights None", "ValueError: None values not supported.", raises("ValueError", "None values not supported."),
           [=] { return sparse(y, x, {.weights = std::nullopt}); }},
          {"reduction \"mean\"", "ValueError: Invalid ReductionKey mean.",
           raises("ValueError", "Invalid ReductionKey mean."), [=] { return sparse(y, x, {.reduction = "mean"}); }},
          {"labels of u8", "TypeError: Value passed to parameter 'labels' has DataType uint8 ...",
           raises("TypeError", "Value passed to parameter 'labels' has DataType u"),
           [=] { return sparse(cast(y, DType::u8), x); }},
          {"labels [2, 2]", "ValueError: Can not squeeze dim[1], expected a dimension of 1, got 2 ...",
           raises("ValueError", "Can not squeeze dim[1], expected a dimension of 1, got 2"),
           [=] { return sparse(cast(both, DType::i64), x); }},
          {"f16: l = 120000, weight 0.25", "rounded to f16 before it is weighted: inf", gives({inf}, {0.25, -0.25}),
           [] {
             return sparse(labels({1}), matrix({{60000, -60000}}, DType::f16), {.weights = 0.25});
           }},
          {"get_total_loss of no losses", "ValueError: inputs must be a list of at least one Tensor ...",
           raises("ValueError", "inputs must be a list of at least one Tensor"),
           [] {
             const losses::Graph graph;
             return gradient_of([] { return losses::get_total_loss(); });
           }},
      }};
}

}  // namespace conformance
