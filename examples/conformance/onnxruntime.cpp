// ONNX Runtime's CPU kernels: the losses with class indices and their gradient, then those with one weight per row or
// with distributions.
#include <xent/nn/compat/onnxruntime.h>

#include "outcome.h"

namespace conformance {

using namespace xent;
namespace ort = compat::onnxruntime;

namespace {

constexpr const char* undefined_read = "reads out of bounds";

Outcome loss(const Tensor& x, const Tensor& y, const Tensor& w = {}, std::optional<int64_t> ignore = {},
             const char* reduction = "mean") {
  return on_tape(x, [&] { return ort::softmax_cross_entropy_loss(x, y, w, ignore, reduction).output; });
}

Outcome dense(const Tensor& x, const Tensor& q, const char* reduction = "mean") {
  return on_tape(x, [&] { return ort::softmax_cross_entropy(x, q, reduction).output; });
}

Outcome sparse(const Tensor& x, const Tensor& y, const Tensor& e = {}, const char* reduction = "mean") {
  return on_tape(x, [&] { return ort::sparse_softmax_cross_entropy(x, y, e, reduction).output; });
}

}  // namespace

System onnxruntime_cpu() {
  const Tensor x = quarters();
  return {
      "ONNX Runtime on the CPU",
      "SoftmaxCrossEntropyLoss and SoftmaxCrossEntropyLossInternal 1.19.2, f32; -1 is ignored unless ignore_index says "
      "otherwise.",
      {
          {"all rows ignored, mean", "loss 0, gradient 0", gives({0}, {0, 0, 0, 0}),
           [=] {
             return loss(x, labels({-1, -1}));
           }},
          {"labels of class weight 0 only", "a total weight of 0 does not divide: loss 0, gradient 0",
           gives({0}, {0, 0, 0, 0}),
           [=] {
             return loss(x, labels({0, 0}), vector({0, 1}));
           }},
          {"weights -1 and 1 that cancel", "the sum, undivided", gives({-ln3}, {0.75, -0.75, 0.25, -0.25}),
           [] {
             return loss(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), vector({-1, 1}));
           }},
          {"a total weight of -1", "divides by -1", gives({2 * ln4 - ln43}, {-1.5, 1.5, -0.25, 0.25}),
           [] {
             return loss(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), vector({-2, 1}));
           }},
          {"label -1, no ignore_index", "ignored: -1 is the default", gives({ln4}, {-0.75, 0.75, 0, 0}),
           [=] {
             return loss(x, labels({0, -1}));
           }},
          {"ignore_index 0, a class", "its rows do not count", gives({ln4}, {0, 0, 0.75, -0.75}),
           [=] {
             return loss(x, labels({0, 1}), {}, 0);
           }},
          {"label -100, no ignore_index", undefined_read, undefined(),
           [=] {
             return loss(x, labels({0, -100}));
           }},
          {"label 2 of two classes", undefined_read, undefined(),
           [=] {
             return loss(x, labels({0, 2}));
           }},
          {"label 2 of two classes, in the Grad", undefined_read, undefined(),
           [=] {
             return gradient_of([&] {
               return ort::softmax_cross_entropy_loss_grad(vector({1}), log_quarters(), labels({0, 2}));
             });
           }},
          {"ignore_index -100 and weights, in the Grad", "reads weight[-100], and throws it away",
           defined({}, {-0.75, 0.75, 0, 0}),
           [=] {
             return gradient_of([&] {
               return ort::softmax_cross_entropy_loss_grad(vector({1}), log_quarters(), labels({0, -100}),
                                                           vector({1, 2}), "mean", -100);
             });
           }},
          {"N = 0", "divides an integer by 0: the process ends", undefined(),
           [] { return loss(matrix({}), labels({})); }},
          {"C = 1", "loss 0, gradient 0", gives({0}, {0, 0}),
           [] {
             return loss(matrix({{5}, {7}}), labels({0, 0}));
           }},
          {"-inf at another class", "gradient 0 there", gives({0}, {0, 0}),
           [] {
             return loss(matrix({{-inf, 0}}), labels({1}));
           }},
          {"-inf at the label", "loss inf, gradient finite", gives({inf}, {-1, 1}),
           [] {
             return loss(matrix({{-inf, 0}}), labels({0}));
           }},
          {"-inf at a label of weight 0", "inf times 0: loss NaN, gradient 0 in the row",
           gives({nan}, {0, 0, 0.25, -0.25}),
           [] {
             return loss(matrix({{-inf, 0}, {0, ln3}}), labels({0, 1}), vector({0, 1}));
           }},
          {"a row of -inf", "NaN in the row", gives({nan}, {nan, nan}),
           [] {
             return loss(matrix({{-inf, -inf}}), labels({0}));
           }},
          {"+inf", "NaN in the row", gives({nan}, {nan, nan}),
           [] {
             return loss(matrix({{inf, 0}}), labels({0}));
           }},
          {"NaN", "loss NaN; gradient NaN in the row only", gives({nan}, {nan, nan, 0.125, -0.125}),
           [] {
             return loss(matrix({{nan, 0}, {0, ln3}}), labels({0, 1}));
           }},
          {"NaN in an ignored row", "does not show: gradient 0 in the row", gives({ln43}, {0, 0, 0.25, -0.25}),
           [] {
             return loss(matrix({{nan, 0}, {0, ln3}}), labels({-1, 1}));
           }},
          {"logits 3e38, -3e38, label 1", "6e38 is beyond f32: loss inf, gradient 1, -1", gives({inf}, {1, -1}),
           [] {
             return loss(matrix({{3e38, -3e38}}), labels({1}));
           }},
          {"weights [4] for two classes", undefined_read, undefined(),
           [=] {
             return loss(x, labels({0, 1}), vector({1, 1, 1, 1}));
           }},
          {"weights [1] for two classes", undefined_read, undefined(),
           [=] {
             return loss(x, labels({0, 1}), vector({1}));
           }},
          {"weights [1, 2]", "RuntimeException: Weights tensor is not 1-D.",
           raises("RuntimeException", "Weights tensor is not 1-D"),
           [=] {
             return loss(x, labels({0, 1}), matrix({{1, 1}}));
           }},
          {"labels [2, 1]", "RuntimeException: logit_shape must be (1 + label_shape)",
           raises("RuntimeException", "logit_shape must be (1 + label_shape)"),
           [=] {
             return loss(x, labels({0, 1}).reshape({2, 1}));
           }},
          {"labels [3] for two rows", "RuntimeException: The shape of logit and label does not match",
           raises("RuntimeException", "The shape of logit and label does not match"),
           [=] {
             return loss(x, labels({0, 1, 0}));
           }},
          {"ignore_index as a tensor [2]", "RuntimeException: ignore_index should be a scalar.",
           raises("RuntimeException", "ignore_index should be a scalar"),
           [=] {
             return on_tape(x, [&] {
               return ort::softmax_cross_entropy_loss_internal(x, labels({0, 1}), {}, labels({0, 1})).output;
             });
           }},
          {"reduction \"Mean\"", "RuntimeException: Unknown ReductionType String",
           raises("RuntimeException", "Unknown ReductionType String"),
           [=] {
             return loss(x, labels({0, 1}), {}, {}, "Mean");
           }},
      }};
}

System onnxruntime_dense() {
  const Tensor x = quarters();
  return {
      "ONNX Runtime on the CPU: dense and sparse",
      "com.microsoft SoftmaxCrossEntropy with distributions, and ai.onnx SparseSoftmaxCrossEntropy with a weight per "
      "row.",
      {
          {"dense: q sums to 2", "gradient p - q, which is not the derivative", gives({ln4 + ln43}, {-0.75, -0.25}),
           [] {
             return dense(matrix({{0, ln3}}), matrix({{1, 1}}));
           }},
          {"dense: a row of zeros", "loss 0, gradient p", gives({0}, {0.25, 0.75}),
           [] {
             return dense(matrix({{0, ln3}}), matrix({{0, 0}}));
           }},
          {"dense: q 0 at a logit of -inf", "0 times inf: NaN; gradient p - q", gives({nan}, {0, 0}),
           [] {
             return dense(matrix({{-inf, 0}}), matrix({{0, 1}}));
           }},
          {"dense: \"none\"", "one number, the sum without its minus", gives({-2 * ln4}, {}),
           [=] {
             Outcome outcome = gradient_of([&] {
               return ort::softmax_cross_entropy(x, matrix({{1, 0}, {0, 1}}), "none").output;
             });
             std::swap(outcome.loss, outcome.gradient);
             return outcome;
           }},
          {"dense: \"none\", in the Grad", "scales by memory that nobody wrote", undefined(),
           [] {
             return gradient_of([] {
               return ort::softmax_cross_entropy_grad(vector({1}), log_quarters(), matrix({{1, 0}, {0, 1}}), "none");
             });
           }},
          {"dense: N = 0, mean", "0/0: NaN", gives({nan}, {}), [] { return dense(matrix({}), matrix({})); }},
          {"dense: label [2, 1]", "RuntimeException: The shape of logit and label is not identical",
           raises("RuntimeException", "The shape of logit and label is not identical"),
           [=] {
             return dense(x, matrix({{1}, {1}}));
           }},
          {"sparse: weights of 0 only", "0/0: loss NaN, gradient NaN", gives({nan}, {nan, nan, nan, nan}),
           [=] {
             return sparse(x, labels({0, 1}), vector({0, 0}));
           }},
          {"sparse: weights -2 and 1", "divides by -1", gives({2 * ln4 - ln43}, {-1.5, 1.5, -0.25, 0.25}),
           [] {
             return sparse(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), vector({-2, 1}));
           }},
          {"sparse: weight 0 at an infinite loss", "0 times inf: NaN", gives({nan}, {0, 0, 0.25, -0.25}),
           [] {
             return sparse(matrix({{-inf, 0}, {0, ln3}}), labels({0, 1}), vector({0, 1}));
           }},
          {"sparse: label -1", "reads out of bounds: it knows no ignore_index", undefined(),
           [=] {
             return sparse(x, labels({0, -1}));
           }},
          {"sparse: weights [2, 1]", "RuntimeException: The shape of weight and label is different",
           raises("RuntimeException", "The shape of weight and label is different"),
           [=] {
             return sparse(x, labels({0, 1}), matrix({{1}, {1}}));
           }},
          {"sparse: N = 0, sum", "0", gives({0}, {}), [] { return sparse(matrix({}), labels({}), {}, "sum"); }},
      }};
}

}  // namespace conformance
