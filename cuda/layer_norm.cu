// layer_norm:  y = (x - m) r w + b,  r = 1 / sqrt(v + epsilon)      m, v: mean and variance of the last axes
//              dx = r (g - mean(g) - h mean(g h)),  g = dy w,  h = (x - m) r
//              dw = sum of dy h over the rows,  db = sum of dy
//
// A warp has a row, or a block one of more than 1,024 columns. It goes over x for the mean, for the squares about it
// and for y; only the first time does x come from memory. Backward reads x and dy twice: for dx, and down the columns
// for dw and db, both in one launch. Statistics and sums are in f64 and kept in f64, as on the CPU.
#include <xent/cuda/axis_sum.cuh>
#include <xent/cuda/call.cuh>
#include <xent/cuda/row_limit.h>
#include <xent/ops/centred.h>
#include <xent/ops/layer_norm.h>

namespace xent::cuda {

namespace {

constexpr int most_columns_of_warp = 1024;

// Sums over the threads that share a row: a warp or the block.
template <int threads, class Value>
__device__ Value row_sum(const Value& value) {
  if constexpr (threads == 32) return warp_sum(value);
  else return block_sum<threads>(value);
}

template <int threads, class T>
__global__ void __launch_bounds__(threads_per_block)
    normalise(const T* in, const T* weight, const T* bias, LayerNormMatrix matrix, double epsilon, T* out,
              double* means, double* inverses) {
  const int lane = static_cast<int>(threadIdx.x) % threads, columns = static_cast<int>(matrix.columns);
  for (int64_t row = first_index() / threads; row < matrix.rows; row += grid_stride() / threads) {
    const T* x = in + row * columns;
    T* y = out + row * columns;
    double sum = 0, squares = 0;
    for (int i = lane; i < columns; i += threads) sum += static_cast<double>(x[i]);
    const double mean = row_sum<threads>(sum) / static_cast<double>(columns);
    for (int i = lane; i < columns; i += threads) {
      const double d = static_cast<double>(x[i]) - mean;
      squares += d * d;
    }
    const double inverse = 1 / sqrt(row_sum<threads>(squares) / static_cast<double>(columns) + epsilon);
    if (lane == 0) means[row] = mean, inverses[row] = inverse;
    const Centred<T> centred(mean);
    const T scale = static_cast<T>(inverse);
    for (int i = lane; i < columns; i += threads) {
      T value = centred(x[i]) * scale;
      if (weight) value *= weight[i];
      if (bias) value += bias[i];
      y[i] = value;
    }
  }
}

template <int threads, class T>
__global__ void __launch_bounds__(threads_per_block)
    normalise_grad(const T* in, const T* weight, const T* upstream, const double* means, const double* inverses,
                   LayerNormMatrix matrix, T* out) {
  const int lane = static_cast<int>(threadIdx.x) % threads, columns = static_cast<int>(matrix.columns);
  for (int64_t row = first_index() / threads; row < matrix.rows; row += grid_stride() / threads) {
    const T *x = in + row * columns, *dy = upstream + row * columns;
    T* dx = out + row * columns;
    const double mean = means[row], inverse = inverses[row];
    const auto g = [=](int i) { return weight ? dy[i] * weight[i] : dy[i]; };
    Sums<2> sums = {};
    for (int i = lane; i < columns; i += threads) {
      const auto wide = static_cast<double>(g(i));
      sums.of[0] += wide;
      sums.of[1] += wide * (static_cast<double>(x[i]) - mean);
    }
    sums = row_sum<threads>(sums);
    const auto count = static_cast<double>(columns);
    const Centred<T> centred(mean);
    const T mean_g = static_cast<T>(sums.of[0] / count), scale = static_cast<T>(inverse);
    const T slope = static_cast<T>(sums.of[1] / count * inverse * inverse);
    for (int i = lane; i < columns; i += threads) dx[i] = scale * ((g(i) - mean_g) - centred(x[i]) * slope);
  }
}

// Starts a kernel of one of two forms: a warp or a block for each row.
template <class OfWarp, class OfBlock, class... Arguments>
void start_rows(const Call& call, const LayerNormMatrix& matrix, OfWarp of_warp, OfBlock of_block,
                const Arguments&... arguments) {
  require_row("layer_norm", call.in[0].shape, matrix.columns, "elements in a row");
  if (matrix.columns <= most_columns_of_warp)
    start(call, "layer_norm", {blocks_for(matrix.rows * 32)}, of_warp, arguments...);
  else start(call, "layer_norm", {blocks_for(matrix.rows * threads_per_block)}, of_block, arguments...);
}

// dy h and dy, of a column.
template <class T>
struct AffineGradTerms {
  using Value = Sums<2>;
  using Running = Sums<2>;
  const T *x, *dy;
  const double *means, *inverses;

  __device__ void add(Sums<2>& running, const Place& place) const {
    const auto upstream = static_cast<double>(dy[place.element]);
    const double h = (static_cast<double>(x[place.element]) - means[place.term]) * inverses[place.term];
    running.of[0] += upstream * h;
    running.of[1] += upstream;
  }
  __device__ Sums<2> finish(const Sums<2>& running) const { return running; }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(x), f(dy), f(means), f(inverses);
  }
};

template <class T>
struct AffineGrad {
  T *dw, *db;  // either may be null
  __device__ void operator()(int64_t column, const Sums<2>& sums) const {
    if (dw) dw[column] = static_cast<T>(sums.of[0]);
    if (db) db[column] = static_cast<T>(sums.of[1]);
  }
  template <class F>
  void for_each_pointer(F&& f) const {
    f(dw), f(db);
  }
};

}  // namespace

void layer_norm(const Call& call) {
  const auto& attrs = call.attrs.as<LayerNormAttrs>();
  const LayerNormMatrix matrix(call.in[0].shape, attrs.axes);
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    start_rows(call, matrix, normalise<32, T>, normalise<threads_per_block, T>, call.in[0].as<T>(), call.in[1].as<T>(),
               call.in[2].as<T>(), matrix, attrs.epsilon, call.out[0].as<T>(), call.out[1].as<double>(),
               call.out[2].as<double>());
  });
}

void layer_norm_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dw = call.grad_in[1], &db = call.grad_in[2];
  const LayerNormMatrix matrix(call.in[0].shape, call.attrs.as<LayerNormAttrs>().axes);
  const auto *means = call.out[1].as<double>(), *inverses = call.out[2].as<double>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const T *x = call.in[0].as<T>(), *dy = call.grad_out[0].as<T>();
    if (dx)
      start_rows(call, matrix, normalise_grad<32, T>, normalise_grad<threads_per_block, T>, x, call.in[1].as<T>(), dy,
                 means, inverses, matrix, dx.as<T>());
    if (dw || db)
      sum_axes(call, "layer_norm", Shape{matrix.rows, matrix.columns}, 0b01, AffineGradTerms<T>{x, dy, means, inverses},
               AffineGrad<T>{dw.as<T>(), db.as<T>()}, call.workspace);
  });
}

size_t layer_norm_grad_workspace(const Call& call) {
  const LayerNormMatrix x(call.in[0].shape, call.attrs.as<LayerNormAttrs>().axes);
  return AxisSum(Shape{x.rows, x.columns}, 0b01).workspace<Sums<2>>();
}

}  // namespace xent::cuda
