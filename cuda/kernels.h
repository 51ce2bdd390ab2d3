// Every op's kernels for CUDA, as the op table names them: ON_CUDA(relu) is &cuda::relu. Each launches work on
// call.stream and returns; the files of this folder define them. One that is missing is a linker error.
#pragma once

#include <cstddef>

namespace xent {

struct Call;

namespace cuda {

// core/fill.cpp
void fill(const Call& call);
void copy(const Call& call);
void copy_grad(const Call& call);
void accumulate(const Call& call);
void put_back(const Call& call);

// One element at a time: elementwise.cpp, binary.cpp, cast.cpp. F is a struct of ops/elementwise.h or ops/binary.h.
template <class F>
void map(const Call& call);
template <class F>
void map_grad(const Call& call);
template <class F>
void binary(const Call& call);
template <class F>
void binary_grad(const Call& call);
size_t binary_grad_workspace(const Call& call);
void cast(const Call& call);
void cast_grad(const Call& call);

// Other places: permute.cpp, concat.cpp, reshape.cpp, pick.cpp, gather_batch.cpp.
void permute(const Call& call);
void permute_grad(const Call& call);
void concat(const Call& call);
void concat_grad(const Call& call);
void slice_rows_grad(const Call& call);
void pick(const Call& call);
void pick_grad(const Call& call);
void gather_batch(const Call& call);

// Sums: reduce.cpp, metrics.cpp, clip.cpp.
void sum(const Call& call);
void sum_grad(const Call& call);
void mean(const Call& call);
void mean_grad(const Call& call);
size_t reduce_workspace(const Call& call);
void argmax(const Call& call);
void accumulate_mean(const Call& call);
void accumulate_correct(const Call& call);
size_t accumulate_correct_workspace(const Call& call);
void accumulate_confusion(const Call& call);
void accumulate_squares(const Call& call);
size_t accumulate_squares_workspace(const Call& call);
void clip_to_norm(const Call& call);

// Products: matmul.cpp, linear.cpp.
void matmul(const Call& call);
void matmul_grad(const Call& call);
void linear(const Call& call);
void linear_grad(const Call& call);
size_t linear_grad_workspace(const Call& call);

// Images: conv2d.cpp, conv2d_max_pool2d.cpp, pool2d.cpp, global_avg_pool2d.cpp, random_shift_flip.cpp.
void conv2d(const Call& call);
void conv2d_grad(const Call& call);
size_t conv2d_workspace(const Call& call);
size_t conv2d_grad_workspace(const Call& call);
void conv2d_max_pool2d(const Call& call);
void conv2d_max_pool2d_grad(const Call& call);
size_t conv2d_max_pool2d_workspace(const Call& call);
size_t conv2d_max_pool2d_grad_workspace(const Call& call);
void max_pool2d(const Call& call);
void max_pool2d_grad(const Call& call);
void avg_pool2d(const Call& call);
void avg_pool2d_grad(const Call& call);
void global_avg_pool2d(const Call& call);
void global_avg_pool2d_grad(const Call& call);
void random_shift_flip(const Call& call);
void random_shift_flip_grad(const Call& call);

// Normalisation: batch_norm2d.cpp, layer_norm.cpp.
void batch_norm2d(const Call& call);
void batch_norm2d_grad(const Call& call);
size_t batch_norm2d_workspace(const Call& call);
size_t batch_norm2d_grad_workspace(const Call& call);
void batch_norm2d_frozen(const Call& call);
void batch_norm2d_frozen_grad(const Call& call);
size_t batch_norm2d_frozen_grad_workspace(const Call& call);
void layer_norm(const Call& call);
void layer_norm_grad(const Call& call);
size_t layer_norm_grad_workspace(const Call& call);

// Softmax and the loss: softmax.cpp, softmax_cross_entropy.cpp.
void softmax(const Call& call);
void softmax_grad(const Call& call);
void log_softmax(const Call& call);
void log_softmax_grad(const Call& call);
void softmax_cross_entropy(const Call& call);
size_t softmax_cross_entropy_workspace(const Call& call);
void softmax_cross_entropy_in_place(const Call& call);
size_t softmax_cross_entropy_in_place_workspace(const Call& call);
void softmax_cross_entropy_grad(const Call& call);
size_t softmax_cross_entropy_grad_workspace(const Call& call);
void softmax_cross_entropy_grad_op(const Call& call);
size_t softmax_cross_entropy_grad_op_workspace(const Call& call);
void softmax_cross_entropy_denominator(const Call& call);
size_t softmax_cross_entropy_denominator_workspace(const Call& call);

// nn/compat: mxnet_labels.cpp.
void mxnet_labels(const Call& call);

// Random numbers: random.cpp, dropout.cpp.
void uniform(const Call& call);
void normal(const Call& call);
void dropout(const Call& call);
void dropout_grad(const Call& call);

// Updates: optimizer_steps.cpp, schedule_rate.cpp.
void sgd_step(const Call& call);
void adam_step(const Call& call);
void advance(const Call& call);
void schedule_rate(const Call& call);

}  // namespace cuda
}  // namespace xent
