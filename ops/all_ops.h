// The table of all ops: what documentation, tests and benchmarks walk over.
#pragma once

#include <span>

#include <xent/core/op.h>

namespace xent {

std::span<const Op* const> all_ops();

extern const Op fill_op, copy_op, accumulate_op;
extern const Op relu_op, tanh_op, sigmoid_op, gelu_op, exp_op, log_op, sqrt_op, scale_op, shift_op;
extern const Op add_op, sub_op, mul_op, div_op;
extern const Op matmul_op, linear_op;
extern const Op conv2d_op, conv2d_max_pool2d_op, max_pool2d_op, avg_pool2d_op, global_avg_pool2d_op;
extern const Op batch_norm2d_op, batch_norm2d_frozen_op, layer_norm_op;
extern const Op sum_op, mean_op, argmax_op;
extern const Op reshape_op, slice_rows_op, permute_op, concat_op, cast_op, gather_batch_op;
extern const Op softmax_op, log_softmax_op, pick_op, softmax_cross_entropy_op, softmax_cross_entropy_in_place_op;
extern const Op softmax_cross_entropy_grad_op, softmax_cross_entropy_denominator_op;
extern const Op uniform_op, normal_op, dropout_op, random_shift_flip_op;
extern const Op sgd_step_op, adam_step_op, advance_op, schedule_rate_op, accumulate_squares_op, clip_to_norm_op;
extern const Op accumulate_mean_op, accumulate_correct_op, accumulate_confusion_op;

}  // namespace xent
