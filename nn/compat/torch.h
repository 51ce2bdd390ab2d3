// torch.nn.functional.cross_entropy: the same arguments, defaults, values, gradients, warnings and errors.
//
//   F.cross_entropy(input, target, label_smoothing=0.1)                            # PyTorch
//   compat::torch::cross_entropy(input, target, {}, {}, -100, {}, "mean", 0.1);    // here
//
// docs/compat/torch.md shows both side by side, and where they differ.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <xent/core/tensor.h>

namespace xent::compat::torch {

// Computes the loss of input [C], [N, C] or [N, C, d1, ...] and reduces it: "mean", "sum" or "none".
//
//   Tensor loss = cross_entropy(input, target);          // [64, 10], i64 [64] -> []
//   Tensor loss = cross_entropy(input, probabilities);   // [64, 10], f32 [64, 10] -> []
//
// target is one class per row, i64 (or u8 where input is a vector or a matrix), or one probability per class, of the
// input's shape. The mean over classes divides by the weights of the labels that are not ignore_index, that over
// probabilities by the number of rows; a mean over nothing is NaN. weight is [C] and a constant. The loss has the
// input's dtype; with probabilities, the one that input, target and weight have in common.
//
// size_average and reduce are deprecated: they warn, and override reduction. Throws Refused with PyTorch's words, and
// LabelError for a label out of range.
Tensor cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight = {},
                     std::optional<bool> size_average = {}, int64_t ignore_index = -100,
                     std::optional<bool> reduce = {}, std::string_view reduction = "mean",
                     double label_smoothing = 0.0);

}  // namespace xent::compat::torch
