// mxnet.gluon.loss.SoftmaxCrossEntropyLoss of MXNet 1.9, without mx.np: the same arguments, defaults, values, gradients
// and errors.
//
//   gluon.loss.SoftmaxCrossEntropyLoss(axis=1)(pred, label)                            # MXNet
//   compat::mxnet::SoftmaxCrossEntropyLoss(1)(pred, label)                             // here
//
// docs/compat/mxnet.md shows both side by side, and where they differ.
#pragma once

#include <cstdint>
#include <optional>

#include <xent/core/tensor.h>

namespace xent::compat::mxnet {

class SoftmaxCrossEntropyLoss {
 public:
  // Makes a loss whose classes lie along axis. sparse_label: labels are classes, not distributions; from_logits: pred
  // is log-probabilities already; weight: a factor of the loss; batch_axis: the axis that is not averaged over.
  explicit SoftmaxCrossEntropyLoss(int64_t axis = -1, bool sparse_label = true, bool from_logits = false,
                                   std::optional<double> weight = {}, int64_t batch_axis = 0)
      : axis_(axis), sparse_label_(sparse_label), from_logits_(from_logits), weight_(weight), batch_axis_(batch_axis) {}

  // Computes one loss per sample: the mean over its rows, by their number whatever they weigh.
  //
  //   Tensor loss = SoftmaxCrossEntropyLoss()(pred, label);   // [64, 10], [64] -> [64]
  //
  // A class is a number of any dtype, cut off at the point and clipped to the classes there are: -1 trains class 0. It
  // has pred's shape without the class axis or with an extent of 1 there; a distribution as many elements as pred.
  //
  // sample_weight is stretched against the losses with a class axis of extent 1, as NumPy does: [64, 1] for pred
  // [64, 10]. A sample_weight of [64] makes [64, 64] of them, and every loss counts with the mean of the weights.
  //
  // Throws Refused with MXNet's words, and LabelError for a label that no int holds: NaN, infinity, 1e20.
  Tensor operator()(const Tensor& pred, const Tensor& label, const Tensor& sample_weight = {}) const;

 private:
  int64_t axis_;
  bool sparse_label_;
  bool from_logits_;
  std::optional<double> weight_;
  int64_t batch_axis_;
};

}  // namespace xent::compat::mxnet
