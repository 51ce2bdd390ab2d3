// concat:  y = the inputs side by side along an axis            dx_k = the part of dy where x_k went
//
// One launch per input; bytes are copied once, in words of up to 16 bytes as widths and addresses allow.
#include <cstddef>

#include <xent/cuda/call.cuh>
#include <xent/cuda/divisor.cuh>
#include <xent/cuda/words.cuh>
#include <xent/ops/concat.h>

namespace xent::cuda {

namespace {

// Strides and widths are in words.
template <class Word>
__global__ void __launch_bounds__(threads_per_block)
    copy_columns_kernel(const Word* from, int64_t from_stride, Word* to, int64_t to_stride, int64_t count,
                        Divisor width) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) {
    const auto [row, column] = width.of(i);
    to[row * to_stride + column] = from[row * from_stride + column];
  }
}

void copy_columns(const Call& call, const Columns& from, const Columns& to, int64_t rows, int64_t width) {
  const int bytes = word_size({from.stride, to.stride, width, address_of(from.data), address_of(to.data)});
  dispatch_word(bytes, [&]<class Word>() {
    start(call, "concat", {blocks_for(rows * width / bytes)}, copy_columns_kernel<Word>,
          reinterpret_cast<const Word*>(from.data), from.stride / bytes, reinterpret_cast<Word*>(to.data),
          to.stride / bytes, rows * width / bytes, Divisor(width / bytes));
  });
}

}  // namespace

void concat(const Call& call) {
  each_part(call.out[0], call.in, call.attrs.as<ConcatAttrs>().axis,
            [&](const Columns& whole, const Columns& part, int64_t rows, int64_t width) {
              copy_columns(call, part, whole, rows, width);
            });
}

void concat_grad(const Call& call) {
  each_part(call.grad_out[0], call.grad_in, call.attrs.as<ConcatAttrs>().axis,
            [&](const Columns& whole, const Columns& part, int64_t rows, int64_t width) {
              copy_columns(call, whole, part, rows, width);
            });
}

}  // namespace xent::cuda
