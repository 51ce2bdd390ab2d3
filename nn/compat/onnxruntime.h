// ONNX Runtime's cross-entropy losses, as its training package 1.19.2 computes them.
//
//   using namespace xent::compat;
//   auto [output, log_prob] = onnxruntime::softmax_cross_entropy_loss(scores, labels);  // [N, C], [N] -> [], [N, C]
//   tape.backward(output);
//
// Names, order and defaults of the arguments are the operators'; docs/compat/onnxruntime.md shows both side by side and
// lists what differs. What an operator refuses is a Refused with its words, and so is what it leaves undefined; a label
// out of range is a LabelError. Losses are differentiable in the logits, also through log_prob, which the original does
// not follow; the Grads are plain functions. Log-probabilities are always computed: where they are not needed, call
// softmax_cross_entropy with presets::onnxruntime, which does not keep them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <xent/core/tensor.h>

namespace xent::compat::onnxruntime {

struct LossResult {
  Tensor output;    // [], or the labels' shape for reduction "none"
  Tensor log_prob;  // log-softmax of the logits, in their layout
};

// ---- onnxruntime.cpp: classes on axis 1, labels of i32 or i64 ----
//
// Scores are [N, C, D1, ...], labels [N, D1, ...], weights [C] of the scores' dtype; reduction is "mean", "sum" or
// "none". f32 is computed as by the CPU kernel: without ignore_index the label -1 is ignored, and a mean over no weight
// is the sum. All other dtypes, and pairs of them, are computed as by the operator's function body: without
// ignore_index nothing is ignored, and a mean over no weight is 0/0, NaN.

// ONNX SoftmaxCrossEntropyLoss, versions 12 and 13.
LossResult softmax_cross_entropy_loss(const Tensor& scores, const Tensor& labels, const Tensor& weights = {},
                                      std::optional<int64_t> ignore_index = {}, std::string_view reduction = "mean");

// com.microsoft SoftmaxCrossEntropyLossInternal: ignore_index is an i64 tensor, [] or [1], that is read on the device;
// output_type is the dtype of both results, the scores' unless given.
//   softmax_cross_entropy_loss_internal(scores, labels, {}, Tensor::from<int64_t>({-100}, {1}), "sum", DType::f32);
LossResult softmax_cross_entropy_loss_internal(const Tensor& scores, const Tensor& labels, const Tensor& weights = {},
                                               const Tensor& ignore_index = {}, std::string_view reduction = "mean",
                                               std::optional<DType> output_type = {});

// com.microsoft SoftmaxCrossEntropyLossGrad: the gradient of the scores from log_prob, which need not be normalised.
// dY has one element, or with "none" as many as the labels.
Tensor softmax_cross_entropy_loss_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                       const Tensor& weight = {}, std::string_view reduction = "mean",
                                       std::optional<int64_t> ignore_index = {});

// com.microsoft SoftmaxCrossEntropyLossInternalGrad: bias has as many elements as log_prob and is added to the
// gradient, in log_prob's layout and also to ignored rows; output_type is the gradient's dtype, log_prob's unless
// given.
Tensor softmax_cross_entropy_loss_internal_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                                const Tensor& weight = {}, const Tensor& ignore_index = {},
                                                const Tensor& bias = {}, std::string_view reduction = "mean",
                                                std::optional<DType> output_type = {});

// ---- onnxruntime_dense.cpp: classes on the last axis ----

// com.microsoft SoftmaxCrossEntropy: the label is a distribution, of the logits' shape and dtype and without a
// gradient. A mean is over the rows; "none" is one number, the sum without its minus.
LossResult softmax_cross_entropy(const Tensor& logits, const Tensor& label, std::string_view reduction = "mean");

// com.microsoft SoftmaxCrossEntropyGrad: (exp(log_prob) - label) dY, also where a row of the label does not sum to 1.
// Refuses "none", for which the original reads memory that nobody wrote.
Tensor softmax_cross_entropy_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                  std::string_view reduction = "mean");

// ai.onnx SparseSoftmaxCrossEntropy: labels of i64, the weight is per row and without a gradient. A mean divides by the
// sum of the weights, be it 0; "none" is the sum.
LossResult sparse_softmax_cross_entropy(const Tensor& logits, const Tensor& label, const Tensor& weight = {},
                                        std::string_view reduction = "mean");

// ai.onnx SparseSoftmaxCrossEntropyGrad.
Tensor sparse_softmax_cross_entropy_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                         const Tensor& weight = {}, std::string_view reduction = "mean");

// ---- onnxruntime.cpp: as the CUDA kernels compute it, on any device and for all dtypes ----
//
// Without ignore_index the label -1 is ignored. Rows are divided one by one, so that a mean over ignored rows is 0 and
// one over rows of weight 0 is NaN; the gradient is 0 in both cases.
namespace cuda {

// The bias, with as many elements as the scores, is added to their gradient before that is rounded.
LossResult softmax_cross_entropy_loss_internal(const Tensor& scores, const Tensor& labels, const Tensor& weights = {},
                                               const Tensor& ignore_index = {}, std::string_view reduction = "mean",
                                               std::optional<DType> output_type = {}, const Tensor& bias = {});

Tensor softmax_cross_entropy_loss_internal_grad(const Tensor& dY, const Tensor& log_prob, const Tensor& label,
                                                const Tensor& weight = {}, const Tensor& ignore_index = {},
                                                const Tensor& bias = {}, std::string_view reduction = "mean",
                                                std::optional<DType> output_type = {});

}  // namespace cuda

}  // namespace xent::compat::onnxruntime
