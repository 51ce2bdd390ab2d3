// ONNX Runtime's CUDA kernels, and the function body that ONNX specifies: the same operators, other corners.
#include <xent/nn/compat/onnxruntime.h>

#include "outcome.h"

namespace conformance {

using namespace xent;
namespace ort = compat::onnxruntime;

namespace {

Outcome cuda(const Tensor& x, const Tensor& y, const Tensor& w = {}, const Tensor& bias = {}) {
  return on_tape(x,
                 [&] { return ort::cuda::softmax_cross_entropy_loss_internal(x, y, w, {}, "mean", {}, bias).output; });
}

Outcome body(const Tensor& x, const Tensor& y, const Tensor& w = {}, std::optional<int64_t> ignore = {},
             const char* reduction = "mean") {
  return on_tape(x, [&] { return ort::softmax_cross_entropy_loss(x, y, w, ignore, reduction).output; });
}

}  // namespace

System onnxruntime_cuda() {
  const Tensor x = quarters();
  return {
      "ONNX Runtime on CUDA",
      "SoftmaxCrossEntropyLossInternal 1.19.2 as its CUDA kernels are written; here on any device.",
      {
          {"all rows ignored, mean", "every row is 0 before it is divided: loss 0, gradient 0",
           gives({0}, {0, 0, 0, 0}),
           [=] {
             return cuda(x, labels({-1, -1}));
           }},
          {"labels of class weight 0 only", "0/0: loss NaN; the gradient has a guard: 0", gives({nan}, {0, 0, 0, 0}),
           [=] {
             return cuda(x, labels({0, 0}), vector({0, 1}));
           }},
          {"weights -1 and 1 that cancel", "every row by 0: -inf + inf is NaN; gradient 0", gives({nan}, {0, 0, 0, 0}),
           [] {
             return cuda(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), vector({-1, 1}));
           }},
          {"C = 1", "loss 0, gradient 0", gives({0}, {0, 0}),
           [] {
             return cuda(matrix({{5}, {7}}), labels({0, 0}));
           }},
          {"a total weight of -1", "divides by -1", gives({2 * ln4 - ln43}, {-1.5, 1.5, -0.25, 0.25}),
           [] {
             return cuda(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), vector({-2, 1}));
           }},
          {"label -1, no ignore_index", "ignored: -1 is the default", gives({ln4}, {-0.75, 0.75, 0, 0}),
           [=] {
             return cuda(x, labels({0, -1}));
           }},
          {"label 2 of two classes", "an assert; without it, reads out of bounds", undefined(),
           [=] {
             return cuda(x, labels({0, 2}));
           }},
          {"NaN in an ignored row", "loss without it; gradient 0 times NaN in the row",
           differs({ln43}, {0, 0, 0.25, -0.25}),
           [] {
             return cuda(matrix({{nan, 0}, {0, ln3}}), labels({-1, 1}));
           }},
          {"N = 0", "divides an integer by 0: the process ends", undefined(),
           [] { return cuda(matrix({}), labels({})); }},
          {"bias, logits [1, 2, 2]",
           "added in the order N, D, C to a gradient in the order N, C, D: in the wrong places",
           differs({(ln4 + ln43) / 2}, {9.625, 20.125, 30.375, 39.875}),
           [] {
             const Tensor y = labels({0, 1}).reshape({1, 2});
             return cuda(matrix({{0, 0}, {ln3, ln3}}).reshape({1, 2, 2}), y, {},
                         vector({10, 20, 30, 40}).reshape({1, 2, 2}));
           }},
          {"f16: l = ln 4, weight 60000", "the product is beyond f16: loss inf", differs({ln4_in_f16}, {-0.75, 0.75}),
           [] {
             return cuda(matrix({{0, ln3}}, DType::f16), labels({0}), vector({60000, 1}, DType::f16));
           }},
      }};
}

System onnx_function() {
  const Tensor x = quarters(DType::f64);
  const auto weights = [](const Numbers& w) { return vector(w, DType::f64); };
  return {
      "ONNX: the function body",
      "What SoftmaxCrossEntropyLoss is by its definition, and what ONNX Runtime expands it into for all types but f32; "
      "logits are f64.",
      {
          {"all rows ignored, mean", "0/0: loss NaN", gives({nan}, {0, 0, 0, 0}),
           [=] {
             return body(x, labels({-1, -1}), {}, -1);
           }},
          {"labels of class weight 0 only", "0/0: loss NaN, gradient NaN", gives({nan}, {nan, nan, nan, nan}),
           [=] {
             return body(x, labels({0, 0}), weights({0, 1}));
           }},
          {"weights -1 and 1 that cancel", "-ln 3 by 0: loss -inf, gradient infinite",
           gives({-inf}, {inf, -inf, inf, -inf}),
           [=] {
             return body(matrix({{0, ln3}, {0, ln3}}, DType::f64), labels({0, 1}), weights({-1, 1}));
           }},
          {"C = 1", "loss 0, gradient 0", gives({0}, {0, 0}),
           [] {
             return body(matrix({{5}, {7}}, DType::f64), labels({0, 0}));
           }},
          {"a total weight of -1", "divides by -1", gives({2 * ln4 - ln43}, {-1.5, 1.5, -0.25, 0.25}),
           [=] {
             return body(matrix({{0, ln3}, {0, ln3}}, DType::f64), labels({0, 1}), weights({-2, 1}));
           }},
          {"label -1, no ignore_index", "the last class in the loss, none in the gradient", stricter(),
           [=] {
             return body(x, labels({0, -1}));
           }},
          {"label 2 of two classes", "GatherElements op: Out of range value in index tensor",
           raises("LabelError", "label 2 is not in [0, 2)"),
           [=] {
             return body(x, labels({0, 2}));
           }},
          {"-inf and NaN in an ignored row", "do not show", gives({ln43}, {0, 0, 0.25, -0.25}),
           [] {
             return body(matrix({{nan, -inf}, {0, ln3}}, DType::f64), labels({-1, 1}), {}, -1);
           }},
          {"-inf at the label", "loss inf, gradient finite", gives({inf}, {-1, 1}),
           [] {
             return body(matrix({{-inf, 0}}, DType::f64), labels({0}));
           }},
          {"reduction \"Mean\"", "taken for \"sum\"", stricter(),
           [=] {
             return body(x, labels({0, 1}), {}, {}, "Mean");
           }},
          {"f16: logits 60000, -60000, label 1", "120000 is beyond f16: loss inf", gives({inf}, {1, -1}),
           [] {
             return body(matrix({{60000, -60000}}, DType::f16), labels({1}));
           }},
          {"f16 to f16", "rounded after every node: some ulp off", differs({ln4_in_f16}, {-0.75, 0.75}),
           [] {
             return body(matrix({{0, ln3}}, DType::f16), labels({0}));
           }},
      }};
}

}  // namespace conformance
