// softmax:      y_c = exp((x_c - m) - log s)   dx_c = y_c (dy_c - sum_k dy_k y_k)
// log_softmax:  y_c = (x_c - m) - log s        dx_c = dy_c - exp(y_c) sum_k dy_k
//
// along any axis, in f32 or f64. A row is read twice, the second time mostly from the caches, and written once. Sums
// are in the type of the elements for up to 64 of them, and in f64 beyond (row_groups.cuh).
#include <xent/cuda/divisor.cuh>
#include <xent/cuda/row_groups.cuh>
#include <xent/cuda/row_limit.h>
#include <xent/ops/softmax.h>

namespace xent::cuda {

namespace {

constexpr int64_t most_blocks = 4096;

struct RowsOf {
  int64_t rows;
  int classes;
  Divisor inner;

  RowsOf(const char* op, const Shape& shape, int axis)
      : rows(shape.product(0, axis) * shape.product(axis + 1, shape.rank())),
        classes(row_length(op, shape, shape[axis], "classes")),
        inner(std::max<int64_t>(1, shape.product(axis + 1, shape.rank()))) {}
  __device__ int64_t start(int64_t row) const {
    const auto [outer, i] = inner.of(row);
    return outer * classes * inner.by + i;
  }
};

// Calls body(the row's first element, group) for the rows of a block.
template <class Group, class Body>
__device__ void each_row(const RowsOf& rows, const Body& body) {
  XENT_SHARED(double, shared, 2 * group_threads / 32);
  const Group group(shared);
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * Group::rows_per_block + group.row(); r < rows.rows;
       r += static_cast<int64_t>(gridDim.x) * Group::rows_per_block)
    body(rows.start(r), group);
}

template <class T, class Group, bool log>
__global__ void __launch_bounds__(group_threads) softmax(const T* x, T* y, RowsOf rows) {
  each_row<Group>(rows, [&](int64_t start, const Group& group) {
    const auto pair = pair_of(x + start, rows.classes, rows.inner.by, group);
    for (int c = group.first(); c < rows.classes; c += Group::stride) {
      const int64_t i = start + c * rows.inner.by;
      y[i] = log ? pair.log_prob(x[i]) : exp_of(pair.log_prob(x[i]));
    }
  });
}

template <class T, class Group, bool log>
__global__ void __launch_bounds__(group_threads) softmax_grad(const T* y, const T* dy, T* dx, RowsOf rows) {
  each_row<Group>(rows, [&](int64_t start, const Group& group) {
    double part = 0;
    for (int c = group.first(); c < rows.classes; c += Group::stride) {
      const int64_t i = start + c * rows.inner.by;
      part += log ? static_cast<double>(dy[i]) : static_cast<double>(dy[i]) * static_cast<double>(y[i]);
    }
    const T sum = static_cast<T>(group.sum(part));
    for (int c = group.first(); c < rows.classes; c += Group::stride) {
      const int64_t i = start + c * rows.inner.by;
      dx[i] = log ? dy[i] - exp_of(y[i]) * sum : y[i] * (dy[i] - sum);
    }
  });
}

template <bool log>
void forward(const char* name, const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  const RowsOf rows(name, x.shape, call.attrs.as<SoftmaxAttrs>().axis);
  if (x.shape.elements() == 0) return;
  dispatch_compute(x.dtype, [&]<class T>() {
    with_group(rows.rows, rows.classes, rows.inner.by, most_blocks, [&]<class Group>(const Grid& grid) {
      start(call, name, grid, softmax<T, Group, log>, x.as<T>(), y.as<T>(), rows);
    });
  });
}

template <bool log>
void backward(const char* name, const Call& call) {
  const Slice &y = call.out[0], &dy = call.grad_out[0], &dx = call.grad_in[0];
  const RowsOf rows(name, y.shape, call.attrs.as<SoftmaxAttrs>().axis);
  if (y.shape.elements() == 0) return;
  dispatch_compute(y.dtype, [&]<class T>() {
    with_group(rows.rows, rows.classes, rows.inner.by, most_blocks, [&]<class Group>(const Grid& grid) {
      start(call, name, grid, softmax_grad<T, Group, log>, y.as<T>(), dy.as<T>(), dx.as<T>(), rows);
    });
  });
}

}  // namespace

void softmax(const Call& call) { forward<false>("softmax", call); }
void softmax_grad(const Call& call) { backward<false>("softmax_grad", call); }
void log_softmax(const Call& call) { forward<true>("log_softmax", call); }
void log_softmax_grad(const Call& call) { backward<true>("log_softmax_grad", call); }

}  // namespace xent::cuda
