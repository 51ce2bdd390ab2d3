// composer.loss.soft_cross_entropy of MosaicML: the arguments of its older signature (up to 0.13), and the values,
// gradients, warnings and errors of 0.32.1.
//
//   soft_cross_entropy(input, target, reduction='mean')    # Composer
//   compat::composer::soft_cross_entropy(input, target);   // here
//
// docs/compat/composer.md shows both side by side, and where they differ.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <xent/core/tensor.h>

namespace xent::compat::composer {

// Computes the loss of input [N, C] or [N, C, d1, ...] and reduces it: "mean", "sum" or "none".
//
//   Tensor loss = soft_cross_entropy(input, labels);   // [64, 10], i64 [64] -> []: torch::cross_entropy
//   Tensor loss = soft_cross_entropy(input, one_hot);  // [64, 10], [64, 10] -> []
//
// A target of the input's shape is a distribution, of any dtype. Its mean divides by the sum of the target, which is
// differentiated too, and weight, [C] or of one element, is not in it: rows of zeros count for nothing. The loss has
// the dtype that input and target have in common.
//
// With a distribution an ignore_index other than -100 warns and does nothing else; a mean warns if the target sums to
// less than the number of rows, but not inside a Step, and refuses a sum that is not positive: inside a Step with an
// ArgumentError. Throws Refused with the original's words, and LabelError for a label out of range.
Tensor soft_cross_entropy(const Tensor& input, const Tensor& target, const Tensor& weight = {},
                          std::optional<bool> size_average = {}, int64_t ignore_index = -100,
                          std::optional<bool> reduce = {}, std::string_view reduction = "mean");

}  // namespace xent::compat::composer
