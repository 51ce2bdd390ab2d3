// A loss on the emulated GPU, kernel by kernel: forward, backward with any gradients wanted, in place, the gradient as
// an op of its own. Inputs are on the CPU, results are on the device.
//
//   const LossRun run = {.logits = x, .target = y, .options = {.axis = 1}, .with_grad = true};
//   const std::vector<Tensor> out = in_every_order([&] { return run.forward(); });   // loss_out::loss, ...
#pragma once

#include <vector>

#include <xent/core/step.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/loss_call.h>
#include <xent/xent.h>

#include "cuda_orders.h"

struct LossRun {
  xent::Tensor logits, target;
  xent::SoftmaxCrossEntropyOptions options;  // with the axes resolved
  xent::LossInputs inputs = {};
  bool with_grad = false;
  int64_t offset = 0;  // of logits, target and gradient, in elements, from a multiple of 256 bytes

  static xent::Tensor there(const xent::Tensor& x) { return x ? x.to(xent::Device::cuda()) : x; }

  // A tensor of such a shape that begins at the offset.
  xent::Tensor shifted(const xent::Shape& shape, xent::DType dtype) const {
    const xent::Tensor all = xent::Tensor::empty({offset + shape.elements()}, dtype, xent::Device::cuda());
    return all.slice(offset, offset + shape.elements()).reshape(shape);
  }
  xent::Tensor shifted(const xent::Tensor& x) const {
    xent::Tensor y = shifted(x.shape(), x.dtype());
    y.copy_from(there(x));
    return y;
  }

  xent::Tensors arguments() const {
    return {shifted(logits),          shifted(target),      there(inputs.class_weights), there(inputs.element_weights),
            there(inputs.normalizer), there(inputs.ignore), there(inputs.grad_addend)};
  }
  xent::LossAttrs attrs() const { return {options, with_grad, logits.shape()[options.axis]}; }

  std::vector<xent::Tensor> forward() const {
    const xent::Tensors out = apply(xent::softmax_cross_entropy_op, arguments(), attrs());
    return {out.begin(), out.end()};
  }

  // The loss, and what became of the logits.
  std::vector<xent::Tensor> in_place() const {
    xent::LossAttrs all = attrs();
    all.with_grad = true;
    const xent::Tensors in = arguments();
    return {apply(xent::softmax_cross_entropy_in_place_op, in, all)[xent::loss_out::loss], in[xent::loss_in::logits]};
  }

  // The gradients of logits, target and element weights for what arrives at loss and log-probabilities.
  std::vector<xent::Tensor> backward(const xent::Tensor& grad_loss, const xent::Tensor& grad_log_probs, bool of_logits,
                                     bool of_target, bool of_weights) const {
    using namespace xent;
    const Tensors in = arguments();
    const Tensors out = apply(softmax_cross_entropy_op, in, attrs());
    const Tensor arriving = there(grad_loss), at_log_probs = there(grad_log_probs);
    std::vector<Tensor> gradients(3);
    if (of_logits) gradients[0] = shifted(logits.shape(), logits.dtype());
    if (of_target) gradients[1] = shifted(target.shape(), target.dtype());
    if (of_weights) gradients[2] = shifted(inputs.element_weights.shape(), inputs.element_weights.dtype());
    std::vector<Slice> in_slices, out_slices, grad_in(in.size()), grad_out(out.size());
    for (const Tensor& x : in) in_slices.push_back(slice_of(x));
    for (const Tensor& x : out) out_slices.push_back(slice_of(x));
    grad_in[loss_in::logits] = slice_of(gradients[0]);
    grad_in[loss_in::target] = slice_of(gradients[1]);
    grad_in[loss_in::element_weights] = slice_of(gradients[2]);
    grad_out[loss_out::loss] = slice_of(arriving);
    grad_out[loss_out::log_probs] = slice_of(at_log_probs);
    const Op& op = softmax_cross_entropy_op;
    launch(op, op.backward,
           {.in = in_slices, .out = out_slices, .grad_in = grad_in, .grad_out = grad_out, .attrs = attrs()},
           Device::cuda());
    std::vector<Tensor> results;  // before the inputs go
    for (const Tensor& x : gradients) results.push_back(x ? x.clone() : x);
    return results;
  }

  // By the op that takes statistics, or an empty handle.
  xent::Tensor grad_op(const xent::Tensor& grad_loss, const xent::Tensor& statistics) const {
    xent::Tensors in = arguments();
    in.push_back(there(grad_loss));
    in.push_back(there(statistics));
    return apply(xent::softmax_cross_entropy_grad_op, in, attrs())[0];
  }

  xent::Tensor denominator() const {
    xent::Tensors in = arguments();
    in[xent::loss_in::logits] = {};
    return apply(xent::softmax_cross_entropy_denominator_op, in, attrs())[0];
  }
};
