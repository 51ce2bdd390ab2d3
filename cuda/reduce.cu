// sum:     y = sum of x over the axes           dx = dy, stretched along the axes
// mean:    y = sum of x / count                 dx = dy / count, stretched along the axes
// argmax:  y = the first index of the largest element along an axis
//
// Sums are in f64 and rounded once; x is read once (axis_sum.cuh). argmax reads x once: up to 32 lanes share a row if
// its elements are neighbours; else a thread has a row, and its neighbours the rows beside it.
#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/broadcast.cuh>
#include <xent/cuda/call.cuh>
#include <xent/cuda/row_limit.h>
#include <xent/ops/reduce.h>

namespace xent::cuda {

namespace {

void reduce(const Call& call, const char* name, double divisor) {
  const Slice& x = call.in[0];
  dispatch_compute(x.dtype, [&]<class T>() {
    sum_axes(call, name, x.shape, call.attrs.as<ReduceAttrs>().axes, ElementsOf<T>{x.as<T>()},
             RoundedTo<T>{call.out[0].as<T>(), divisor}, call.workspace);
  });
}

template <class T>
__global__ void __launch_bounds__(threads_per_block)
    stretch(const Broadcast broadcast, const T* dy, T divisor, T* dx, int64_t count) {
  for (int64_t i = first_index(); i < count; i += grid_stride()) dx[i] = dy[broadcast.at(i).a] / divisor;
}

void reduce_grad(const Call& call, const char* name, double divisor) {
  const Slice& dx = call.grad_in[0];
  const Shape dy = without_axes(dx.shape, call.attrs.as<ReduceAttrs>().axes, true);
  const int64_t count = dx.shape.elements();
  dispatch_compute(dx.dtype, [&]<class T>() {
    start(call, name, {blocks_for(count)}, stretch<T>, Broadcast(dx.shape, dy, dy), call.grad_out[0].as<T>(),
          static_cast<T>(divisor), dx.as<T>(), count);
  });
}

// Whether the element x at k comes before the best so far: nothing is above a NaN, and the first of equals wins.
template <class T>
__device__ bool beats(T x, int k, T best, int best_k) {
  const bool nan = x != x, best_nan = best != best;
  if (nan != best_nan) return nan;
  if (nan || x == best) return k < best_k;
  return x > best;
}

// Row j begins at element j / inner * extent * inner + j % inner; its elements are `inner` apart.
template <class T>
__global__ void __launch_bounds__(threads_per_block)
    argmax_kernel(const T* x, int64_t* y, int64_t rows, int extent, int64_t inner, int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int beside = static_cast<int>(threadIdx.x) % 32;  // a warp stays together
  for (int64_t thread = first_index(); (thread - beside) / lanes < rows; thread += grid_stride()) {
    const int64_t j = thread / lanes;
    int best_k = min(lane, extent - 1);
    T best{};
    if (j < rows) {
      const T* row = x + j / inner * extent * inner + j % inner;
      best = row[best_k * inner];
      for (int k = lane + lanes; k < extent; k += lanes)
        if (const T value = row[k * inner]; beats(value, k, best, best_k)) best = value, best_k = k;
    }
    for (int bits = lanes / 2; bits > 0; bits /= 2) {
      const T other = __shfl_xor_sync(0xffffffffu, best, bits);
      const int other_k = __shfl_xor_sync(0xffffffffu, best_k, bits);
      if (beats(other, other_k, best, best_k)) best = other, best_k = other_k;
    }
    if (j < rows && lane == 0) y[j] = best_k;
  }
}

}  // namespace

void sum(const Call& call) { reduce(call, "sum", 1); }
void sum_grad(const Call& call) { reduce_grad(call, "sum", 1); }
void mean(const Call& call) { reduce(call, "mean", elements_per_output(call.in[0].shape, call.out[0].shape)); }
void mean_grad(const Call& call) {
  reduce_grad(call, "mean", elements_per_output(call.grad_in[0].shape, call.grad_out[0].shape));
}

size_t reduce_workspace(const Call& call) {
  return AxisSum(call.in[0].shape, call.attrs.as<ReduceAttrs>().axes).workspace<double>();
}

void argmax(const Call& call) {
  const Shape& shape = call.in[0].shape;
  const int axis = call.attrs.as<ArgmaxAttrs>().axis;
  const int extent = row_length("argmax", shape, shape[axis], "elements along the axis");
  const int64_t inner = shape.product(axis + 1, shape.rank());
  const int64_t rows = call.out[0].shape.elements();
  const int lanes = inner == 1 ? std::min(lanes_for(extent), 32) : 1;
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    start(call, "argmax", {blocks_for(rows * lanes)}, argmax_kernel<T>, call.in[0].as<T>(), call.out[0].as<int64_t>(),
          rows, extent, inner, lanes);
  });
}

}  // namespace xent::cuda
