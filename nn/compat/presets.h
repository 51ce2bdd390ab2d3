// Presets: the options under which softmax_cross_entropy is another system's loss. The functions in this folder add
// the systems' argument names, defaults and errors; a preset alone is enough where you build the call yourself.
//
//   Tensor loss = softmax_cross_entropy(logits, labels, compat::presets::torch);  // mean over 0 rows is NaN
#pragma once

#include <xent/ops/softmax_cross_entropy.h>

namespace xent::compat::presets {

using Options = SoftmaxCrossEntropyOptions;
using Denominator = Reduction::Denominator;
using WhenZero = Reduction::WhenZero;
using DenseGrad = Options::Parity::DenseGrad;

// ONNX Runtime's SoftmaxCrossEntropyLoss and ...Internal on the CPU.
inline constexpr Options onnxruntime = {
    .axis = 1,
    .target = {.ignore = -1},
    .reduction = {.denominator = Denominator::label_weights, .when_zero = WhenZero::undivided},
};

// The same on CUDA: rows are divided one by one, and the gradient has a guard of its own.
inline constexpr Options onnxruntime_cuda = {
    .axis = 1,
    .target = {.ignore = -1},
    .reduction = {.denominator = Denominator::label_weights, .when_zero = WhenZero::ieee},
    .parity = {.divide_rows = true, .zero_grad_when_zero = true},
};

// The function body of the ONNX operators: no label is ignored unless one is given, 0/0 is NaN.
inline constexpr Options onnx = {
    .axis = 1,
    .reduction = {.denominator = Denominator::label_weights, .when_zero = WhenZero::ieee},
};

// com.microsoft SoftmaxCrossEntropy, with distributions.
inline constexpr Options onnxruntime_dense = {
    .reduction = {.denominator = Denominator::rows, .when_zero = WhenZero::ieee},
    .parity = {.dense_grad = DenseGrad::prob_minus_target, .multiply_zeros = true},
};

// ai.onnx SparseSoftmaxCrossEntropy, with a weight per row.
inline constexpr Options onnxruntime_sparse = {
    .reduction = {.denominator = Denominator::element_weights, .when_zero = WhenZero::ieee},
    .parity = {.multiply_zeros = true},
};

// MXNet's gluon.loss.SoftmaxCrossEntropyLoss: a mean per sample; labels are clipped to the classes there are.
inline constexpr Options mxnet = {
    .reduction = {.kind = Reduction::Kind::sample_mean, .when_zero = WhenZero::ieee},
    .parity = {.out_of_range = Options::Parity::OutOfRange::clip, .multiply_zeros = true},
};

// torch.nn.functional.cross_entropy with class indices.
inline constexpr Options torch = {
    .axis = 1,
    .target = {.ignore = -100},
    .reduction = {.denominator = Denominator::label_weights, .when_zero = WhenZero::ieee},
};

// torch.nn.functional.cross_entropy with class probabilities.
inline constexpr Options torch_probabilities = {
    .axis = 1,
    .reduction = {.denominator = Denominator::rows, .when_zero = WhenZero::ieee},
    .parity = {.multiply_zeros = true},
};

// composer.loss.soft_cross_entropy with distributions; with indices it is torch's.
inline constexpr Options composer = {
    .axis = 1,
    .reduction = {.denominator = Denominator::target_mass, .when_zero = WhenZero::error_if_not_positive},
    .parity = {.multiply_zeros = true},
};

// tf.losses.softmax_cross_entropy of TensorFlow r1.4.
inline constexpr Options tensorflow = {
    .reduction = {.denominator = Denominator::nonzero_weights, .when_zero = WhenZero::zero_if_not_positive},
    .parity = {.dense_grad = DenseGrad::prob_minus_target, .multiply_zeros = true, .any_smoothing = true},
};

// tf.losses.sparse_softmax_cross_entropy of TensorFlow r1.4.
inline constexpr Options tensorflow_sparse = {
    .reduction = {.denominator = Denominator::nonzero_weights, .when_zero = WhenZero::zero_if_not_positive},
    .parity = {.multiply_zeros = true},
};

}  // namespace xent::compat::presets
