// More than 2^31 of anything in products, convolutions and pools on CUDA: the last block of each grid is run alone, and
// what it writes at the far end is looked at.
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/memory.h>
#include <xent/cuda/bias_activation.cuh>
#include <xent/cuda/context.h>
#include <xent/cuda/im2col.cuh>
#include <xent/xent.h>

#include "cuda_orders.h"
#include "emulator_array.h"

using namespace xent;

namespace {

constexpr int64_t wide = int64_t{1} << 30;                 // the most that an image's side or its padding may have
constexpr int64_t large = (int64_t{1} << 31) + (1 << 21);  // the last block's last element is the last of so many
constexpr int64_t vast = (int64_t{1} << 32) + (1 << 21);   // and beyond what is unsigned in 32 bits

size_t last_of(int64_t count) { return static_cast<size_t>(count - 1); }

Call call_on_device() { return {.stream = {cuda::context(0).stream, cuda::context(0).errors}}; }

template <class F>
void in_last_block(const F& launches) {
  const emulator::ScheduleScope scope({emulator::Order::last_block});
  launches(call_on_device());
  check(cudaStreamSynchronize(cuda::context(0).stream));
}

// Of a tensor of gigabytes a test can look at no more than an element.
Tensor element(const Tensor& x, int64_t at) { return x.reshape({x.elements()}).slice(at, at + 1); }
double value(const Tensor& x, int64_t at) { return element(x, at).item(); }
void set(const Tensor& x, int64_t at, double number) { element(x, at).copy_from(Tensor::full({1}, number)); }
Tensor zeros(const Shape& shape) {  // gigabytes are zeros that nobody has written
  return shape.elements() < wide ? Tensor::zeros(shape, DType::f32, Device::cuda())
                                 : Tensor::empty(shape, DType::f32, Device::cuda());
}

// Fresh memory is not filled with NaNs while it lives: that would touch all of it.
struct Unpoisoned {
  bool before = poison_fresh_memory(false);
  ~Unpoisoned() { poison_fresh_memory(before); }
};

// Runs an op of x on the last blocks, forward and, from an upstream of 5 at the last element, backward.
struct Result {
  Tensor y, dx;
};
template <class Op>
Result run_at_the_end(const Op& op, const Tensor& x) {
  const emulator::ScheduleScope scope({emulator::Order::last_block});
  Tape tape;
  tape.watch(x);
  Result result{op(x), {}};
  const Tensor upstream = zeros(result.y.shape());
  set(upstream, upstream.elements() - 1, 5);
  result.dx = tape.backward(result.y, {.upstream = upstream})[x];
  value(result.dx, 0);  // waits
  return result;
}

// A value that is 1 in one place, and a sum that is kept if it is that of one place.
struct OneAt {
  int64_t row, column;
  double operator()(int64_t r, int64_t c) const { return r == row && c == column ? 1 : 0; }
};
struct SumAt {
  int64_t part, column;
  double* sum;
  void operator()(int64_t p, int64_t c, double total) const {
    if (p == part && c == column) *sum = total;
  }
};

}  // namespace

TEST_CASE("bias and activation of many rows, and of many columns") {
  for (const bool rows : {true, false}) {
    const int64_t columns = rows ? 1 : large;
    const DeviceArray<float> y(large), bias(static_cast<size_t>(columns));
    y.set(last_of(large), -1);
    bias.set(last_of(columns), 3);
    in_last_block([&](const Call& call) {
      cuda::bias_activation<float>(call, rows ? large : 1, columns, bias.data(), Activation::relu, y.data());
    });
    CHECK(y.value(last_of(large)) == 2);
  }
}

TEST_CASE("an activation's gradient of many rows, and of many columns") {
  for (const bool rows : {true, false}) {
    const int64_t columns = rows ? 1 : large;
    const int64_t elements = rows ? large : 2 * large;
    const auto count = static_cast<size_t>(elements);
    const DeviceArray<float> y(count), dy(count), dz(count);
    y.set(count - 1, 1);
    dy.set(count - 1, 5);
    in_last_block([&](const Call& call) {
      const cuda::ActivationGrad<scalar::Relu, float> grad{{}, y.data(), dy.data(), dz.data(), columns};
      cuda::bias_grad<float>(call, elements / columns, columns, grad, {}, nullptr);
    });
    CHECK(dz.value(count - 1) == 5);
  }
}

TEST_CASE("sums of many rows, parts, and columns, and of parts of many rows") {
  struct Sums {
    int64_t rows, columns, part_rows;
  };
  for (const Sums s : {Sums{large, 1, 1 << 23}, {large + 5, 1, large}, {large, 1, 1}, {1, vast, 1}}) {
    const DeviceArray<double> sum(std::vector<double>{0});
    in_last_block([&](const Call& call) {
      cuda::sum_columns(call, "sums", s.rows, s.columns, s.part_rows, OneAt{s.rows - 1, s.columns - 1},
                        SumAt{(s.rows - 1) / s.part_rows, s.columns - 1, sum.data()});
    });
    CHECK(sum.value(0) == 1);
  }
}

TEST_CASE("what is summed and where sums go may be far") {
  const DeviceArray<float> x(large);
  const DeviceArray<double> sums(large);
  x.set(last_of(large), 3);
  CHECK(cuda::Elements<float>{x.data(), 1}(large - 1, 0) == 3);
  CHECK(cuda::Elements<float>{x.data(), large}(0, large - 1) == 3);
  CHECK(cuda::Elements<float>{x.data(), large - 1}(1, 0) == 3);
  cuda::Partials{sums.data(), 1}(large - 1, 0, 5);
  CHECK(sums.value(last_of(large)) == 5);
  cuda::Partials{sums.data(), large}(0, large - 1, 6);
  CHECK(sums.value(last_of(large)) == 6);
  cuda::Partials{sums.data(), large - 1}(1, 0, 7);
  CHECK(sums.value(last_of(large)) == 7);
  cuda::BiasGrad<float>{x.data(), 1}(0, large - 1, 4);
  CHECK(x.value(last_of(large)) == 7);
}

TEST_CASE("workspaces are counted in 64 bits") {
  const auto bytes = static_cast<size_t>(large) * 4;
  CHECK(cuda::GradWorkspace(Activation::relu, 1, large, DType::f32).bytes() == bytes);
  CHECK(cuda::GradWorkspace(Activation::relu, large, 1, DType::f32).dz == bytes);
  CHECK(cuda::GradWorkspace(Activation::none, 600, large, DType::f32).sums == bytes / 4 * 3 * 8);
  const cuda::Convolution c({1, 1, 3, large}, {1, 1, large, 1}, {1, 1, 2, 1}, {.stride = 2});
  CHECK(c.pixels_at_once(4) == 1);
  CHECK(c.forward_workspace(4) == bytes);
  CHECK(c.grad_workspace(4) == bytes);
  const cuda::Convolution many({large, 1, 1, 2}, {1, 1, 2, 1}, {large, 1, 1, 1}, {.stride = 2});
  CHECK(many.grad_workspace(4) == 24 << 20);
}

TEST_CASE("im2col of the last of many images, of many channels, of many places in a kernel, and of a long line") {
  struct Patches {
    Shape x, weight, y;
    Conv2dOptions options;
    int64_t first, count;
  };
  const std::vector<Patches> all = {
      {{large, 1, 1, 2}, {1, 1, 2, 1}, {large, 1, 1, 1}, {.stride = 2}, large - 4, 4},
      {{1, 1, 1, vast}, {1, 1, vast, 1}, {1, 1, 1, 1}, {.stride = 2}, 0, 1},
      {{1, 65536, 32769, 1}, {65536, 32769, 1, 1}, {1, 1, 1, 1}, {}, 0, 1},
      {{1, 1, wide, 1}, {1, 1, 1, 1}, {1, 1, 3 * wide, 1}, {.padding = {0, wide}}, 2 * wide - 4, 4},
  };
  for (const Patches& p : all) {
    const std::string problem = p.x.str();
    CAPTURE(problem);
    const cuda::Convolution c(p.x, p.weight, p.y, p.options);
    const int64_t elements = p.x[0] * p.x[1] * p.x[2] * p.x[3];
    const DeviceArray<float> x(static_cast<size_t>(elements)), columns(static_cast<size_t>(p.count * c.depth()));
    x.set(last_of(elements), 7);
    in_last_block([&](const Call& call) { cuda::im2col<float>(call, c, p.first, p.count, x.data(), columns.data()); });
    CHECK(columns.value(last_of(p.count * c.depth())) == 7);
  }
}

TEST_CASE("col2im of the last of many images, all at once or alone, and of a long line") {
  struct Patches {
    Shape x, y;
    Conv2dOptions options;
    int64_t first, first_image, images;
  };
  const std::vector<Patches> all = {
      {{large, 1, 1, 2}, {large, 1, 1, 1}, {.stride = 2}, large - 4, large - 4, 4},
      {{large, 1, 1, 1}, {large, 1, 1, 1}, {.stride = 2}, large - 4, 0, large},
      {{1, 1, wide, 1}, {1, 1, 3 * wide, 1}, {.padding = {0, wide}}, 2 * wide - 4, 0, 1},
  };
  for (const Patches& p : all) {
    const std::string problem = p.x.str();
    CAPTURE(problem);
    const int64_t channels = p.x[3], elements = p.x[0] * p.x[1] * p.x[2] * channels;
    const cuda::Convolution c(p.x, {1, 1, channels, 1}, p.y, p.options);
    const DeviceArray<float> columns(static_cast<size_t>(4 * channels)), dx(static_cast<size_t>(elements));
    columns.set(last_of(4 * channels), 7);
    in_last_block([&](const Call& call) {
      cuda::col2im<float>(call, c, p.first, 4, columns.data(), p.first_image, p.images, 0, dx.data());
    });
    CHECK(dx.value(last_of(elements)) == 7);
  }
}

TEST_CASE("a pixel that is 2^32 before those gathered is not taken for one of them") {
  const int64_t pixel = 4095 * 256, far = pixel + (int64_t{1} << 32), elements = 5 * wide;  // the last block has it
  const cuda::Convolution c({1, 5, wide, 1}, {1, 1, 1, 1}, {1, 5, wide, 1}, {});
  const DeviceArray<float> columns(std::vector<float>{7, 7, 7, 7}), dx(static_cast<size_t>(elements));
  in_last_block([&](const Call& call) { cuda::col2im<float>(call, c, far, 4, columns.data(), 0, 1, 0, dx.data()); });
  CHECK(dx.value(static_cast<size_t>(pixel)) == 0);
  CHECK(dx.value(static_cast<size_t>(far)) == 7);
}

TEST_CASE("conv2d of many images, to many channels, and of a long line") {
  const Unpoisoned memory;
  const auto at_the_end = [](const Shape& x, int64_t out, const Conv2dOptions& options, int64_t from, int64_t to) {
    const Tensor images = zeros(x), weight = zeros({1, 1, 1, out});
    set(images, from, 3);
    set(weight, out - 1, 2);
    const emulator::ScheduleScope scope({emulator::Order::last_block});
    return value(conv2d(images, weight, {}, options), to);
  };
  CHECK(at_the_end({large, 1, 1, 1}, 1, {}, large - 1, large - 1) == 6);
  CHECK(at_the_end({1, 1, 1, 1}, large, {}, 0, large - 1) == 6);
  CHECK(at_the_end({1, 1, wide, 1}, 1, {.padding = {0, wide}}, wide - 1, 2 * wide - 1) == 6);
}

TEST_CASE("conv2d_max_pool2d of many images, and to many channels") {
  const Unpoisoned memory;
  for (const bool images : {true, false}) {
    const Tensor x = zeros({images ? large : 1, 2, 2, 1}), weight = zeros({1, 1, 1, images ? 1 : large});
    const Tensor bias = zeros({images ? 1 : large});
    set(x, x.elements() - 1, 3);
    set(weight, weight.elements() - 1, 2);
    set(bias, bias.elements() - 1, 1);
    const emulator::ScheduleScope scope({emulator::Order::last_block});
    Tape tape;
    tape.watch(bias);
    const Tensor y = conv2d_max_pool2d(x, weight, bias);
    CHECK(value(y, large - 1) == 7);
    const Tensor upstream = zeros(y.shape());
    set(upstream, large - 1, 5);
    const Tensor dbias = tape.backward(y, {.upstream = upstream})[bias];
    CHECK(value(dbias, bias.elements() - 1) == 5);
  }
}

// Most of such a result is padding; the images' last pixel is in the middle of it.
TEST_CASE("conv2d_max_pool2d to high and to wide images") {
  const Unpoisoned memory;
  for (const bool high : {true, false}) {
    const Tensor x = zeros({2, high ? wide : 1, high ? 1 : wide, 1}), weight = zeros({1, 1, 1, 1});
    set(x, 2 * wide - 1, 3);
    set(weight, 0, 2);
    const emulator::ScheduleScope scope({emulator::Order::last_block});
    const Tensor y = conv2d_max_pool2d(x, weight, {}, {.padding = {high ? wide : 1, high ? 1 : wide}});
    REQUIRE(y.elements() == 3 * wide);
    CHECK(value(y, 3 * wide / 2 + wide - 1) == 6);
  }
}

TEST_CASE("pools of many images, and of many channels") {
  const Unpoisoned memory;
  const Pool2dOptions one = {.window = 1};
  for (const Shape& shape : {Shape{large, 1, 1, 1}, Shape{2, 1, 1, large}}) {
    const Tensor x = zeros(shape);
    const int64_t last = shape.elements() - 1;
    set(x, last, 3);
    const auto check_both_ways = [&](const auto& pool) {
      const Result result = run_at_the_end(pool, x);
      CHECK(value(result.y, last) == 3);
      CHECK(value(result.dx, last) == 5);
    };
    check_both_ways([&](const Tensor& images) { return max_pool2d(images, one); });
    check_both_ways([&](const Tensor& images) { return avg_pool2d(images, one); });
    check_both_ways([&](const Tensor& images) { return global_avg_pool2d(images); });
  }
  const Tensor x = zeros({1, 2, 1, large});  // pools of two pixels each
  set(x, 2 * large - 1, 3);
  const Result max = run_at_the_end([](const Tensor& images) { return max_pool2d(images, {.window = {2, 1}}); }, x);
  CHECK(value(max.y, large - 1) == 3);
  CHECK(value(max.dx, 2 * large - 1) == 5);
  const Result mean = run_at_the_end([](const Tensor& images) { return global_avg_pool2d(images); }, x);
  CHECK(value(mean.y, large - 1) == 1.5);
  CHECK(value(mean.dx, 2 * large - 1) == 2.5);
}
