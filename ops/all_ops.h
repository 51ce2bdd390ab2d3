// The table of all ops: what documentation, tests and benchmarks walk over.
#pragma once

#include <span>

#include <xent/core/op.h>

namespace xent {

std::span<const Op* const> all_ops();

extern const Op fill_op, copy_op, accumulate_op;
extern const Op relu_op, tanh_op, sigmoid_op, gelu_op, exp_op, log_op, scale_op, shift_op;
extern const Op add_op, sub_op, mul_op, div_op;
extern const Op matmul_op, linear_op;
extern const Op sum_op, mean_op, argmax_op;
extern const Op reshape_op, slice_rows_op, cast_op;
extern const Op softmax_op, log_softmax_op, pick_op, softmax_cross_entropy_op;
extern const Op uniform_op, normal_op;
extern const Op sgd_step_op, adam_step_op, advance_op;
extern const Op accumulate_mean_op, accumulate_correct_op;

}  // namespace xent
