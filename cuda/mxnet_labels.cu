// mxnet_labels:  y = x cut off at the point, as i64; 0 where no int holds it, beside the error.
//
// Labels are few, so one block takes them: it finds the first bad one without a second launch.
#include <xent/cuda/call.cuh>
#include <xent/cuda/row_limit.h>
#include <xent/ops/mxnet_labels.h>

namespace xent::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    whole_labels(const T* x, int64_t* y, int count, ErrorRecord* errors) {
  XENT_SHARED(int, of_thread, threads_per_block);
  int first = INT32_MAX;
  for (int r = static_cast<int>(threadIdx.x); r < count; r += threads_per_block) {
    const bool fits = fits_int(x[r]);
    y[r] = fits ? convert<int64_t>(x[r]) : 0;
    if (!fits && r < first) first = r;
  }
  of_thread[threadIdx.x] = first;
  __syncthreads();
  if (threadIdx.x != 0 || errors == nullptr) return;
  for (unsigned thread = 1; thread < threads_per_block; ++thread)
    first = of_thread[thread] < first ? of_thread[thread] : first;
  if (first == INT32_MAX || errors->kind != ErrorRecord::Kind::none) return;
  *errors = {.kind = ErrorRecord::Kind::no_int, .row = first, .denominator = convert<double>(x[first])};
}

}  // namespace

void mxnet_labels(const Call& call) {
  const Slice& x = call.in[0];
  const int count = row_length("SoftmaxCrossEntropyLoss", x.shape, x.shape.elements(), "labels");
  if (count == 0) return;
  dispatch(x.dtype, [&]<class T>() {
    start(call, "mxnet_labels", {.blocks = 1, .max_threads = threads_per_block}, whole_labels<T>, x.as<T>(),
          call.out[0].as<int64_t>(), count, errors_of(call));
  });
}

}  // namespace xent::cuda
