// cast:  y = x in another dtype      dx = dy in the input's dtype
//
// Every element is rounded once, by the function that the CPU uses too. One read of x and one write of y.
#include <xent/core/convert.h>
#include <xent/cuda/call.cuh>

namespace xent::cuda {

namespace kernels {

template <class From, class To>
__global__ void cast(const From* x, To* y, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) y[i] = convert<To>(x[i]);
}

}  // namespace kernels

namespace {

void convert_elements(const Call& call, const Slice& from, const Slice& to) {
  const int64_t count = to.shape.elements();
  dispatch(from.dtype, [&]<class From>() {
    dispatch(to.dtype, [&]<class To>() {
      start(call, "cast", {blocks_for(count)}, kernels::cast<From, To>, from.as<From>(), to.as<To>(), count);
    });
  });
}

}  // namespace

void cast(const Call& call) { convert_elements(call, call.in[0], call.out[0]); }
void cast_grad(const Call& call) { convert_elements(call, call.grad_out[0], call.grad_in[0]); }

}  // namespace xent::cuda
