#include <xent/ops/all_ops.h>

namespace xent {

namespace {

// Explicit, one line per family, so that a static library drops none.
// clang-format off
constexpr const Op* table[] = {
    &fill_op, &copy_op, &accumulate_op,
    &relu_op, &tanh_op, &sigmoid_op, &gelu_op, &exp_op, &log_op, &sqrt_op, &scale_op, &shift_op,
    &add_op, &sub_op, &mul_op, &div_op,
    &matmul_op, &linear_op,
    &conv2d_op, &conv2d_max_pool2d_op, &max_pool2d_op, &avg_pool2d_op, &global_avg_pool2d_op,
    &batch_norm2d_op, &batch_norm2d_frozen_op, &layer_norm_op,
    &sum_op, &mean_op, &argmax_op,
    &reshape_op, &slice_rows_op, &permute_op, &concat_op, &cast_op, &gather_batch_op,
    &softmax_op, &log_softmax_op, &pick_op,
    &softmax_cross_entropy_op, &softmax_cross_entropy_in_place_op, &softmax_cross_entropy_grad_op,
    &softmax_cross_entropy_denominator_op,
    &uniform_op, &normal_op, &dropout_op, &random_shift_flip_op,
    &sgd_step_op, &adam_step_op, &advance_op, &schedule_rate_op, &accumulate_squares_op, &clip_to_norm_op,
    &accumulate_mean_op, &accumulate_correct_op, &accumulate_confusion_op,
};
// clang-format on

}  // namespace

std::span<const Op* const> all_ops() { return table; }

}  // namespace xent
