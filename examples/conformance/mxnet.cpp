// mxnet.gluon.loss.SoftmaxCrossEntropyLoss.
#include <xent/nn/compat/mxnet.h>

#include "outcome.h"

namespace conformance {

using namespace xent;
using Loss = compat::mxnet::SoftmaxCrossEntropyLoss;

namespace {

Outcome call(const Loss& loss, const Tensor& pred, const Tensor& label, const Tensor& sample_weight = {}) {
  return on_tape(pred, [&] { return loss(pred, label, sample_weight); });
}

}  // namespace

System mxnet() {
  const Tensor x = quarters();
  const Loss plain, dense(-1, false);
  const Numbers by_zero_and_one = {-0.75, 0.75, 0.75, -0.75};  // the gradient for labels 0, 1
  return {
      "MXNet",
      "gluon.loss.SoftmaxCrossEntropyLoss 1.9.1: one loss per sample, the mean over its rows by their number. Nothing "
      "is "
      "ignored, and there is no total weight to be 0.",
      {
          {"label -1", "clipped to class 0", gives({ln4, ln4}, by_zero_and_one),
           [=] {
             return call(plain, x, labels({-1, 1}));
           }},
          {"label -100", "clipped to class 0", gives({ln4, ln4}, by_zero_and_one),
           [=] {
             return call(plain, x, labels({-100, 1}));
           }},
          {"label 7 of two classes", "clipped to the last class", gives({ln4, ln4}, by_zero_and_one),
           [=] {
             return call(plain, x, labels({0, 7}));
           }},
          {"label 1.9", "cut off: class 1", gives({ln4, ln4}, by_zero_and_one),
           [=] {
             return call(plain, x, vector({0, 1.9}));
           }},
          {"label NaN", "an undefined conversion to int", undefined(),
           [=] {
             return call(plain, x, vector({0, nan}));
           }},
          {"label 1e20", "an undefined conversion to int", undefined(),
           [=] {
             return call(plain, x, vector({0, 1e20}));
           }},
          {"sample_weight 0", "loss 0, gradient 0 in the row", gives({0, ln4}, {0, 0, 0.75, -0.75}),
           [=] {
             return call(plain, x, labels({0, 1}), matrix({{0}, {1}}));
           }},
          {"sample_weight 0 at an infinite loss", "0 times inf: NaN", gives({nan, ln4}, {0, 0, 0.75, -0.75}),
           [=] {
             return call(plain, matrix({{-inf, 0}, {ln3, 0}}), labels({0, 1}), matrix({{0}, {1}}));
           }},
          {"sample_weight -2", "a factor like any other", gives({-2 * ln4, ln4}, {1.5, -1.5, 0.75, -0.75}),
           [=] {
             return call(plain, x, labels({0, 1}), matrix({{-2}, {1}}));
           }},
          {"sample_weight [2] for pred [2, 2]", "stretched to [2, 2]: each loss times the mean of the weights, 2",
           gives({2 * ln4, 2 * ln4}, {-1.5, 1.5, 1.5, -1.5}),
           [=] {
             return call(plain, x, labels({0, 1}), vector({1, 3}));
           }},
          {"sample_weight [3, 1]", "MXNetError: operands could not be broadcast together",
           raises("MXNetError", "operands could not be broadcast together"),
           [=] {
             return call(plain, x, labels({0, 1}), matrix({{1}, {1}, {1}}));
           }},
          {"weight 0", "applied: loss 0, gradient 0", gives({0, 0}, {0, 0, 0, 0}),
           [=] {
             return call(Loss(-1, true, false, 0.0), x, labels({0, 1}));
           }},
          {"C = 1", "loss 0, gradient 0", gives({0, 0}, {0, 0}),
           [=] {
             return call(plain, matrix({{5}, {7}}), labels({0, 0}));
           }},
          {"N = 0", "a shape that cannot be told: 0 means unknown", defined({}, {}),
           [=] { return call(plain, matrix({}), labels({})); }},
          {"-inf at the label", "loss inf, gradient finite", gives({inf}, {-1, 1}),
           [=] {
             return call(plain, matrix({{-inf, 0}}), labels({0}));
           }},
          {"+inf", "NaN in the row", gives({nan}, {nan, nan}),
           [=] {
             return call(plain, matrix({{inf, 0}}), labels({0}));
           }},
          {"NaN", "NaN in the row", gives({nan, ln4}, {nan, nan, 0.75, -0.75}),
           [=] {
             return call(plain, matrix({{nan, 0}, {ln3, 0}}), labels({0, 1}));
           }},
          {"dense: q sums to 2", "gradient (sum q) p - q", gives({ln4 + ln43}, {-0.5, 0.5}),
           [=] {
             return call(dense, matrix({{0, ln3}}), matrix({{1, 1}}));
           }},
          {"dense: q 0 at a logit of -inf", "0 times inf: NaN", gives({nan}, {0, 0}),
           [=] {
             return call(dense, matrix({{-inf, 0}}), matrix({{0, 1}}));
           }},
          {"dense: label [4] for pred [2, 2]", "reshaped", gives({ln4, ln4}, by_zero_and_one),
           [=] {
             return call(dense, x, vector({1, 0, 0, 1}));
           }},
          {"dense: label [3] for pred [2, 2]", "MXNetError: target shape must have the same size as current shape",
           raises("MXNetError", "target shape"),
           [=] {
             return call(dense, x, vector({1, 0, 0}));
           }},
          {"from_logits", "pred is log-probabilities: gradient -q", gives({ln4, ln4}, {-1, 0, 0, -1}),
           [=] {
             return call(Loss(-1, true, true), log_quarters(), labels({0, 1}));
           }},
          {"axis 2 of pred [2, 2]", "MXNetError: axis 2 exceeds the input dimension of 2",
           raises("MXNetError", "exceeds the input dimension of 2"),
           [=] {
             return call(Loss(2), x, labels({0, 1}));
           }},
          {"batch_axis 5", "MXNetError: Reduction axis 5 Exceeds input dimensions",
           raises("MXNetError", "Reduction axis"),
           [=] {
             return call(Loss(-1, true, false, {}, 5), x, labels({0, 1}));
           }},
          {"f16: 4096 equal logits", "adds 1 to 2048 in f16, in vain: loss 7.625 for ln 4096", differs({8.3203125}, {}),
           [=] {
             Outcome outcome = call(plain, Tensor::zeros({1, 4096}, DType::f16), labels({0}));
             outcome.gradient.reset();
             return outcome;
           }},
      }};
}

}  // namespace conformance
