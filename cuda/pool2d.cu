// max_pool2d on the GPU:  y = the largest x of each window, and its place     dx at the place += dy
// avg_pool2d on the GPU:  y = sum of x in each window / its size             dx everywhere in it += dy / its size
//
// A thread per element of the result, neighbours along the channels; windows are clipped to the image first. Backward
// gathers: a thread per element of dx adds up the windows that it is in, in the order in which the CPU scatters them,
// so that dx has the same bits. Sums of avg_pool2d are in f64. The largest is the first of equals, and a NaN is larger
// than all.
#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/cuda/divisor.cuh>
#include <xent/ops/pool2d.h>

namespace xent::cuda {

namespace {

// The half-open range of an axis.
struct Range {
  int64_t begin, end;
};

struct Axis {
  int64_t extent, outputs, window, stride, padding;
  Divisor by_extent{extent}, by_outputs{outputs}, by_stride{stride};

  // What a window covers of the image.
  __device__ Range covered(int64_t output) const {
    const int64_t first = output * stride - padding;
    return {first > 0 ? first : 0, first + window < extent ? first + window : extent};
  }

  // The windows that cover a place.
  __device__ Range covering(int64_t place) const {
    const int64_t reach = place + padding, last = by_stride.of(reach).quotient + 1;
    return {reach < window ? 0 : by_stride.of(reach - window).quotient + 1, last < outputs ? last : outputs};
  }
};

class Windows {
 public:
  Axis rows, columns;
  int64_t channels;
  Divisor by_channels;

  Windows(const Shape& x, const Shape& y, const PoolAttrs& a)
      : rows{x[1], y[1], a.window.height, a.stride.height, a.padding.height},
        columns{x[2], y[2], a.window.width, a.stride.width, a.padding.width},
        channels(x[3]),
        by_channels(channels) {}

  // Of an element of the result, or of the images: its channel, row, column and image.
  struct Place {
    int64_t channel, row, column, image;
  };
  __device__ Place output(int64_t at) const { return place(at, columns.by_outputs, rows.by_outputs); }
  __device__ Place input(int64_t at) const { return place(at, columns.by_extent, rows.by_extent); }

 private:
  __device__ Place place(int64_t at, const Divisor& by_width, const Divisor& by_height) const {
    const auto [pixel, channel] = by_channels.of(at);
    const auto [line, column] = by_width.of(pixel);
    const auto [image, row] = by_height.of(line);
    return {channel, row, column, image};
  }
};

Windows windows_of(const Call& call, const Slice& x, const Slice& y) {
  return {x.shape, y.shape, call.attrs.as<PoolAttrs>()};
}

Grid grid_of(const Slice& slice) {
  return {blocks_for(slice.shape.elements()), threads_per_block, 0, threads_per_block};
}

double size_of_window(const Call& call) {
  const Extent2d window = call.attrs.as<PoolAttrs>().window;
  return static_cast<double>(window.height) * static_cast<double>(window.width);
}

}  // namespace

namespace kernels {

template <class T>
__global__ void __launch_bounds__(256) max_pool2d(Windows w, int64_t elements, const T* x, T* y, int32_t* place) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto to = w.output(at);
    const Range rows = w.rows.covered(to.row), columns = w.columns.covered(to.column);
    const T* const image = x + to.image * w.rows.extent * w.columns.extent * w.channels + to.channel;
    int64_t largest_at = rows.begin * w.columns.extent + columns.begin;
    T largest = image[largest_at * w.channels];
    for (int64_t r = rows.begin; r < rows.end; ++r)
      for (int64_t c = columns.begin; c < columns.end; ++c) {
        const T value = image[(r * w.columns.extent + c) * w.channels];
        if (value <= largest || largest != largest) continue;
        largest = value;
        largest_at = r * w.columns.extent + c;
      }
    y[at] = largest;
    place[at] = static_cast<int32_t>(largest_at);
  }
}

template <class T>
__global__ void __launch_bounds__(256)
    max_pool2d_grad(Windows w, int64_t elements, const T* dy, const int32_t* place, T* dx) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto [channel, row, column, image] = w.input(at);
    const int64_t here = row * w.columns.extent + column;
    const Range rows = w.rows.covering(row), columns = w.columns.covering(column);
    T sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = columns.begin; j < columns.end; ++j) {
        const int64_t from = ((image * w.rows.outputs + i) * w.columns.outputs + j) * w.channels + channel;
        if (place[from] == here) sum += dy[from];
      }
    dx[at] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(256) avg_pool2d(Windows w, int64_t elements, double size, const T* x, T* y) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto to = w.output(at);
    const Range rows = w.rows.covered(to.row), columns = w.columns.covered(to.column);
    const T* const image = x + to.image * w.rows.extent * w.columns.extent * w.channels + to.channel;
    double sum = 0;
    for (int64_t r = rows.begin; r < rows.end; ++r)
      for (int64_t c = columns.begin; c < columns.end; ++c)
        sum += static_cast<double>(image[(r * w.columns.extent + c) * w.channels]);
    y[at] = static_cast<T>(sum / size);
  }
}

template <class T>
__global__ void __launch_bounds__(256) avg_pool2d_grad(Windows w, int64_t elements, T share, const T* dy, T* dx) {
  for (int64_t at = first_index(); at < elements; at += grid_stride()) {
    const auto [channel, row, column, image] = w.input(at);
    const Range rows = w.rows.covering(row), columns = w.columns.covering(column);
    T sum = 0;
    for (int64_t i = rows.begin; i < rows.end; ++i)
      for (int64_t j = columns.begin; j < columns.end; ++j)
        sum += share * dy[((image * w.rows.outputs + i) * w.columns.outputs + j) * w.channels + channel];
    dx[at] = sum;
  }
}

}  // namespace kernels

void max_pool2d(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "max_pool2d", grid_of(y), kernels::max_pool2d<T>, windows_of(call, x, y), y.shape.elements(), x.as<T>(),
          y.as<T>(), call.out[1].as<int32_t>());
  });
}

void max_pool2d_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dy = call.grad_out[0];
  dispatch_compute(dx.dtype, [&]<class T>() {
    start(call, "max_pool2d_grad", grid_of(dx), kernels::max_pool2d_grad<T>, windows_of(call, dx, dy),
          dx.shape.elements(), dy.as<T>(), call.out[1].as<int32_t>(), dx.as<T>());
  });
}

void avg_pool2d(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  dispatch_compute(x.dtype, [&]<class T>() {
    start(call, "avg_pool2d", grid_of(y), kernels::avg_pool2d<T>, windows_of(call, x, y), y.shape.elements(),
          size_of_window(call), x.as<T>(), y.as<T>());
  });
}

void avg_pool2d_grad(const Call& call) {
  const Slice &dx = call.grad_in[0], &dy = call.grad_out[0];
  dispatch_compute(dx.dtype, [&]<class T>() {
    start(call, "avg_pool2d_grad", grid_of(dx), kernels::avg_pool2d_grad<T>, windows_of(call, dx, dy),
          dx.shape.elements(), static_cast<T>(1 / size_of_window(call)), dy.as<T>(), dx.as<T>());
  });
}

}  // namespace xent::cuda
