// max_pool2d:  y = the largest x of each window         dx at its place += dy
// avg_pool2d:  y = sum of x in each window / its size   dx everywhere in it += dy / its size
//
// Images and results are [batch, height, width, channels]; the inner loops run over channels. A window may overlap its
// neighbours, but never another image, so images are the parts of parallel work in the backwards.
#include <algorithm>
#include <limits>
#include <utility>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/ops.h>
#include <xent/ops/pool2d.h>
#include <xent/ops/samples.h>
#include <xent/ops/windows.h>

namespace xent {

namespace {

PoolAttrs attrs_of(const Pool2dOptions& options) {
  return {options.window, options.stride == 0 ? options.window : options.stride, options.padding};
}

Spec infer_pool(const char* op, const Spec& x, const PoolAttrs& a) {
  require_images(op, x);
  require<ArgumentError>(a.padding.height <= a.window.height / 2 && a.padding.width <= a.window.width / 2,
                         "{}: padding {} x {} is more than half of the window, {} x {}", op, a.padding.height,
                         a.padding.width, a.window.height, a.window.width);
  const int64_t height = window_steps(op, x.shape, 1, a.window.height, a.stride.height, a.padding.height, 1);
  const int64_t width = window_steps(op, x.shape, 2, a.window.width, a.stride.width, a.padding.width, 1);
  return {windows_shape(op, x.shape, height, width, x.shape[3]), x.dtype};
}

// The second output is the place of each largest element in its image's plane, for backward.
Specs infer_max_pool(std::span<const Spec> in, const Attrs& attrs) {
  const Spec y = infer_pool("max_pool2d", in[0], attrs.as<PoolAttrs>());
  require<ShapeError>(in[0].shape[1] <= std::numeric_limits<int32_t>::max() / in[0].shape[2],
                      "max_pool2d: images {} have 2^31 pixels or more", in[0].shape);
  return {y, {y.shape, DType::i32}};
}

Specs infer_avg_pool(std::span<const Spec> in, const Attrs& attrs) {
  return {infer_pool("avg_pool2d", in[0], attrs.as<PoolAttrs>())};
}

}  // namespace

namespace cpu {

// The windows of a call, clipped to the image.
struct Windows {
  int64_t batch, height, width, channels, out_height, out_width;
  PoolAttrs attrs;

  Windows(const Shape& x, const Shape& y, const PoolAttrs& a)
      : batch(x[0]), height(x[1]), width(x[2]), channels(x[3]), out_height(y[1]), out_width(y[2]), attrs(a) {}

  int64_t in_image() const { return height * width * channels; }
  int64_t out_image() const { return out_height * out_width * channels; }

  // Calls body(pixel) for each pixel of the image plane in window (i, j), in order.
  template <class Body>
  void each_pixel(int64_t i, int64_t j, const Body& body) const {
    const int64_t top = i * attrs.stride.height - attrs.padding.height;
    const int64_t left = j * attrs.stride.width - attrs.padding.width;
    for (int64_t r = std::max<int64_t>(top, 0); r < std::min(top + attrs.window.height, height); ++r)
      for (int64_t c = std::max<int64_t>(left, 0); c < std::min(left + attrs.window.width, width); ++c)
        body(r * width + c);
  }

  // Calls body(image, i, j, y offset) for all windows, a chunk of rows of them at a time.
  template <class Body>
  void each(const Body& body) const {
    const int64_t pixels = std::min(attrs.window.height, height) * std::min(attrs.window.width, width);  // no overflow
    const int64_t work = out_width * channels * std::min<int64_t>(pixels, 1 << 16);
    parallel_for(batch * out_height, (1 << 16) / std::max<int64_t>(work, 1), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t j = 0; j < out_width; ++j)
          body(row / out_height, row % out_height, j, (row * out_width + j) * channels);
    });
  }

  // Calls body(image) for all images.
  template <class Body>
  void each_image(const Body& body) const {
    parallel_for(batch, (1 << 16) / std::max<int64_t>(in_image(), 1), [&](int64_t begin, int64_t end) {
      for (int64_t image = begin; image < end; ++image) body(image);
    });
  }
};

Windows windows_of(const Call& call, const Slice& x, const Slice& y) {
  return {x.shape, y.shape, call.attrs.as<PoolAttrs>()};
}

void max_pool2d(const Call& call) {
  if (call.out[0].shape.elements() == 0) return;
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Windows w = windows_of(call, call.in[0], call.out[0]);
    w.each([&](int64_t image, int64_t i, int64_t j, int64_t at) {
      const T* x = call.in[0].as<T>() + image * w.in_image();
      T* y = call.out[0].as<T>() + at;
      int32_t* place = call.out[1].as<int32_t>() + at;
      bool first = true;
      w.each_pixel(i, j, [&](int64_t pixel) {
        const T* row = x + pixel * w.channels;
        const auto here = static_cast<int32_t>(pixel);
        if (std::exchange(first, false)) {
          std::copy_n(row, w.channels, y);
          std::fill_n(place, w.channels, here);
          return;
        }
        for (int64_t c = 0; c < w.channels; ++c) {
          const bool larger = !(row[c] <= y[c]) && y[c] == y[c];  // a NaN is larger than all, and nothing than a NaN
          y[c] = larger ? row[c] : y[c];
          place[c] = larger ? here : place[c];
        }
      });
    });
  });
}

void max_pool2d_grad(const Call& call) {
  if (call.grad_in[0].shape.elements() == 0) return;
  dispatch_compute(call.grad_in[0].dtype, [&]<class T>() {
    const Windows w = windows_of(call, call.grad_in[0], call.grad_out[0]);
    w.each_image([&](int64_t image) {
      T* dx = call.grad_in[0].as<T>() + image * w.in_image();
      const T* dy = call.grad_out[0].as<T>() + image * w.out_image();
      const int32_t* place = call.out[1].as<int32_t>() + image * w.out_image();
      std::fill_n(dx, w.in_image(), T(0));
      for (int64_t at = 0; at < w.out_image(); at += w.channels)
        for (int64_t c = 0; c < w.channels; ++c) dx[place[at + c] * w.channels + c] += dy[at + c];
    });
  });
}

void avg_pool2d(const Call& call) {
  if (call.out[0].shape.elements() == 0) return;
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    const Windows w = windows_of(call, call.in[0], call.out[0]);
    const auto size = static_cast<double>(w.attrs.window.height) * static_cast<double>(w.attrs.window.width);
    w.each([&](int64_t image, int64_t i, int64_t j, int64_t at) {
      constexpr int64_t group = 64;  // channels summed side by side
      for (int64_t from = 0; from < w.channels; from += group) {
        const int64_t count = std::min(group, w.channels - from);
        const T* x = call.in[0].as<T>() + image * w.in_image() + from;
        double sums[group] = {};
        w.each_pixel(i, j, [&](int64_t pixel) {
          for (int64_t c = 0; c < count; ++c) sums[c] += static_cast<double>(x[pixel * w.channels + c]);
        });
        for (int64_t c = 0; c < count; ++c) call.out[0].as<T>()[at + from + c] = static_cast<T>(sums[c] / size);
      }
    });
  });
}

void avg_pool2d_grad(const Call& call) {
  if (call.grad_in[0].shape.elements() == 0) return;
  dispatch_compute(call.grad_in[0].dtype, [&]<class T>() {
    const Windows w = windows_of(call, call.grad_in[0], call.grad_out[0]);
    const T share =
        static_cast<T>(1 / (static_cast<double>(w.attrs.window.height) * static_cast<double>(w.attrs.window.width)));
    w.each_image([&](int64_t image) {
      T* dx = call.grad_in[0].as<T>() + image * w.in_image();
      const T* dy = call.grad_out[0].as<T>() + image * w.out_image();
      std::fill_n(dx, w.in_image(), T(0));
      for (int64_t i = 0; i < w.out_height; ++i)
        for (int64_t j = 0; j < w.out_width; ++j, dy += w.channels)
          w.each_pixel(i, j, [&](int64_t pixel) {
            for (int64_t c = 0; c < w.channels; ++c) dx[pixel * w.channels + c] += share * dy[c];
          });
    });
  });
}

}  // namespace cpu

namespace {

// Numbers with distances that differences do not bridge: largest elements stay the largest.
Tensor distinct_sample(const Shape& shape, DType dtype, uint64_t seed) {
  Tensor order = Tensor::zeros(shape, DType::f64);
  HostRandom random(seed);
  double* values = order.mutable_data<double>();
  for (int64_t i = 0; i < shape.elements(); ++i) {
    const auto other = static_cast<int64_t>(random.below(static_cast<uint64_t>(i) + 1));
    values[i] = values[other];
    values[other] = 0.1 * static_cast<double>(i) - 2;
  }
  return cast(order, dtype);
}

Samples pool_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, const Pool2dOptions& options) {
    return Sample{{distinct_sample(shape, dtype, 1)}, attrs_of(options)};
  };
  return {sample({2, 6, 4, 3}, {}), sample({1, 7, 5, 2}, {.window = 3, .stride = 2, .padding = 1}),
          sample({2, 5, 8, 1}, {.window = {2, 3}, .stride = {1, 2}, .padding = {0, 1}}),
          sample({1, 4, 4, 70}, {.window = 4}), sample({3, 9, 7, 2}, {.window = 2, .stride = 3})};
}

}  // namespace

constinit const Op max_pool2d_op = {
    .name = "max_pool2d",
    .formula = "y = max of x over each window",
    .infer = infer_max_pool,
    .forward = {cpu::max_pool2d, ON_CUDA(max_pool2d)},
    .backward = {cpu::max_pool2d_grad, ON_CUDA(max_pool2d_grad)},
    .needs_in = nothing,
    .needs_out = 0b10,
    .differentiable_out = 0b01,
    .samples = pool_samples,
};

constinit const Op avg_pool2d_op = {
    .name = "avg_pool2d",
    .formula = "y = sum of x over each window / its size",
    .infer = infer_avg_pool,
    .forward = {cpu::avg_pool2d, ON_CUDA(avg_pool2d)},
    .backward = {cpu::avg_pool2d_grad, ON_CUDA(avg_pool2d_grad)},
    .needs_in = nothing,
    .needs_out = nothing,
    .samples = pool_samples,
};

Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options) {
  return apply(max_pool2d_op, {x}, attrs_of(options))[0];
}
Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options) {
  return apply(avg_pool2d_op, {x}, attrs_of(options))[0];
}

}  // namespace xent
