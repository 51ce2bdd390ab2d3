// max_pool2d, avg_pool2d and global_avg_pool2d against their definitions: plain loops in f64.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "chance.h"
#include "data_files.h"

using namespace xent;
using data_files::contains, data_files::error_of;

namespace {

using Doubles = std::vector<double>;
using Pool = Tensor (*)(const Tensor&, const Pool2dOptions&);

constexpr double inf = HUGE_VAL;

Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

// As large as all of the image, so that one pooling has one window.
Tensor global_pool(const Tensor& x, const Pool2dOptions&) { return global_avg_pool2d(x); }

struct Expected {
  Shape shape;
  Doubles y, dx;  // dx for dy = 1, 2, 3, ..
};

int64_t steps(int64_t extent, int64_t window, int64_t stride, int64_t padding) {
  int64_t count = 0;
  while (count * stride + window <= extent + 2 * padding) ++count;
  return count;
}

// Goes through the windows, and through the padded image within each.
Expected expected(const Tensor& tensor, const Pool2dOptions& o, bool largest) {
  const Shape& s = tensor.shape();
  const int64_t height = s[1], width = s[2], channels = s[3];
  const Doubles x = doubles(tensor);
  Expected e;
  e.shape = {s[0], steps(height, o.window.height, o.stride.height, o.padding.height),
             steps(width, o.window.width, o.stride.width, o.padding.width), channels};
  e.dx.resize(x.size());
  const double size = static_cast<double>(o.window.height * o.window.width);
  for (int64_t n = 0; n < s[0]; ++n)
    for (int64_t i = 0; i < e.shape[1]; ++i)
      for (int64_t j = 0; j < e.shape[2]; ++j)
        for (int64_t c = 0; c < channels; ++c) {
          const double dy = static_cast<double>(e.y.size() + 1);
          std::vector<size_t> read;  // places of the window's elements
          for (int64_t k = 0; k < o.window.height; ++k)
            for (int64_t l = 0; l < o.window.width; ++l) {
              const int64_t row = i * o.stride.height - o.padding.height + k;
              const int64_t column = j * o.stride.width - o.padding.width + l;
              if (row >= 0 && row < height && column >= 0 && column < width)
                read.push_back(static_cast<size_t>(((n * height + row) * width + column) * channels + c));
            }
          REQUIRE(!read.empty());
          size_t best = read[0];
          double sum = 0;
          for (const size_t at : read) {
            sum += x[at];
            if (!std::isnan(x[best]) && (std::isnan(x[at]) || x[at] > x[best])) best = at;
            if (!largest) e.dx[at] += dy / size;
          }
          if (largest) e.dx[best] += dy;
          e.y.push_back(largest ? x[best] : sum / size);
        }
  return e;
}

Tensor counting(const Shape& shape, DType dtype) {
  Doubles values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i + 1);
  return cast(Tensor::from(values, shape), dtype);
}

// Equal up to rounding; NaN and infinities are equal to themselves.
bool near(const Tensor& got, const Doubles& want) {
  const Doubles values = doubles(got);
  const double tolerance = got.dtype() == DType::f32 ? 2e-6 : 1e-14;
  bool all = values.size() == want.size();
  for (size_t i = 0; all && i < want.size(); ++i)
    all = values[i] == want[i] || (std::isnan(values[i]) && std::isnan(want[i])) ||
          std::abs(values[i] - want[i]) <= tolerance * (1 + std::abs(want[i]));
  return all;
}

void check(const Tensor& x, Pool pool, const Pool2dOptions& given, const Pool2dOptions& meant, bool largest) {
  const std::string problem = x.shape().str() + Shape{meant.window.height, meant.window.width,   meant.stride.height,
                                                      meant.stride.width,  meant.padding.height, meant.padding.width}
                                                    .str();
  CAPTURE(problem);
  CAPTURE(largest);
  const Expected want = expected(x, meant, largest);
  Tape tape;
  tape.watch(x);
  const Tensor y = pool(x, given);
  const Shape shape = y.rank() == 2 ? Shape{y.shape()[0], 1, 1, y.shape()[1]} : y.shape();
  CHECK((shape == want.shape || want.shape.elements() == 0));
  CHECK(near(y, want.y));
  const Tensor dy = counting(y.shape(), y.dtype());
  CHECK(near(tape.backward(y, {.upstream = dy, .retain = true})[x], want.dx));

  Gradients sums = Gradients::zeros(std::vector<Tensor>{x});
  sums.fill(1);
  tape.backward(y, sums, {.upstream = dy, .retain = true});
  tape.backward(y, sums, {.upstream = dy});
  Doubles twice = want.dx;
  for (double& value : twice) value = 1 + 2 * value;
  CHECK(near(sums[x], twice));
}

// As check, for each of the poolings.
void check_all(const Tensor& x, const Pool2dOptions& options) {
  Pool2dOptions meant = options;
  if (meant.stride == 0) meant.stride = meant.window;
  check(x, max_pool2d, options, meant, true);
  check(x, avg_pool2d, options, meant, false);
  const Extent2d all(x.shape()[1], x.shape()[2]);
  check(x, global_pool, {}, {all, all}, false);
}

}  // namespace

TEST_CASE("pooling and its gradients, also added to others, are what the definition says") {
  const bool poisoned = poison_fresh_memory(true);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    const Extent2d window(c.from(1, 5), c.from(1, 5));
    const Extent2d padding(c.from(0, window.height / 2), c.from(0, window.width / 2));
    const Extent2d stride = c.one_in(4) ? Extent2d(0) : Extent2d(c.from(1, 4), c.from(1, 4));
    const auto extent = [&](int64_t w, int64_t p) { return std::max<int64_t>(1, w - 2 * p) + c.from(0, 8); };
    const Shape shape{c.one_in(12) ? 0 : c.from(1, 3), extent(window.height, padding.height),
                      extent(window.width, padding.width), c.any<int64_t>({1, 2, 3, 17, 33, 64, 65, 130})};
    Tensor x = normal_sample(shape, c.one_in(3) ? DType::f64 : DType::f32, seed);
    if (c.one_in(3)) x = cast(cast(scale(x, 1.5), DType::i32), x.dtype());  // many are equal
    check_all(x, {window, stride, padding});
  }
  poison_fresh_memory(poisoned);
}

TEST_CASE("pooling many images, and large ones, is what the definition says") {
  check_all(normal_sample({40, 28, 28, 3}, DType::f32, 1), {});
  check_all(normal_sample({2, 150, 170, 5}, DType::f32, 2), {.window = 3, .stride = 2, .padding = 1});
}

TEST_CASE("pooling has the same bits for any number of threads") {
  const int before = threads();
  const Tensor x = normal_sample({7, 61, 59, 9}, DType::f32, 3);
  for (const Pool pool : {Pool(max_pool2d), Pool(avg_pool2d), Pool(global_pool)}) {
    const auto run = [&](int count) {
      set_threads(count);
      Tape tape;
      tape.watch(x);
      const Tensor y = pool(x, {.window = 3, .stride = 2, .padding = 1});
      Doubles all = doubles(y);
      for (const double value : doubles(tape.backward(y, {.upstream = normal_sample(y.shape(), DType::f32, 4)})[x]))
        all.push_back(value);
      return all;
    };
    const Doubles one = run(1);
    for (const int count : {2, 3}) {
      const Doubles many = run(count);
      CHECK(std::memcmp(one.data(), many.data(), one.size() * sizeof(double)) == 0);
    }
  }
  set_threads(before);
}

TEST_CASE("the first of equal largest elements gets the gradient of max_pool2d") {
  const Tensor x = Tensor::from({1, 5, 5, 1, 5, 5}, {1, 2, 3, 1});
  Tape tape;
  tape.watch(x);
  const Tensor y = max_pool2d(x, {.stride = 1});
  CHECK(doubles(y) == Doubles{5, 5});
  CHECK(doubles(tape.backward(y, {.upstream = Tensor::from({3, 4}, y.shape())})[x]) == Doubles{0, 7, 0, 0, 0, 0});
}

TEST_CASE("padding is never the largest, not even among -inf, and no gradient is lost to it") {
  for (const double value : {-1.0, -inf}) {
    const Tensor x = Tensor::full({1, 3, 3, 2}, value);
    Tape tape;
    tape.watch(x);
    const Tensor y = max_pool2d(x, {.window = 3, .stride = 1, .padding = 1});
    for (const double largest : doubles(y)) CHECK(largest == value);
    CHECK(sum(tape.backward(y, {.upstream = Tensor::ones(y.shape())})[x]).item() == 18);
  }
}

TEST_CASE("a NaN is the largest of its window, the first one gets the gradient, and other windows do not see it") {
  for (const bool infinite : {false, true}) {
    const float other = infinite ? HUGE_VALF : 3;
    const Tensor x = Tensor::from({other, NAN, 1, 2, NAN, other, 4, 3}, {1, 2, 4, 1});
    check_all(x, {});
    Tape tape;
    tape.watch(x);
    const Tensor y = max_pool2d(x);
    CHECK(std::isnan(doubles(y)[0]));
    CHECK(doubles(y)[1] == 4);
    CHECK(doubles(tape.backward(y, {.upstream = Tensor::ones(y.shape())})[x]) == Doubles{0, 1, 0, 0, 0, 0, 1, 0});
  }
}

TEST_CASE("avg_pool2d counts padding as zeros, and sums exactly what f32 would round") {
  const Tensor x = Tensor::full({1, 2, 2, 1}, 8);
  CHECK(doubles(avg_pool2d(x, {.window = 2, .stride = 2, .padding = 1})) == Doubles{2, 2, 2, 2});
  const Tensor y = Tensor::from({1e8F, 1, -1e8F, 1}, {1, 2, 2, 1});
  CHECK(doubles(avg_pool2d(y)) == Doubles{0.5});
  CHECK(doubles(global_avg_pool2d(y)) == Doubles{0.5});
}

TEST_CASE("pooling of no images, or of no channels, is empty") {
  for (const Shape& shape : {Shape{0, 4, 4, 3}, Shape{2, 4, 4, 0}}) {
    const Tensor x = Tensor::zeros(shape);
    CHECK(max_pool2d(x).shape() == Shape{shape[0], 2, 2, shape[3]});
    CHECK(avg_pool2d(x).shape() == Shape{shape[0], 2, 2, shape[3]});
    CHECK(global_avg_pool2d(x).shape() == Shape{shape[0], shape[3]});
    check_all(x, {});
  }
}

TEST_CASE("a window far larger than the image reads the image") {
  const Tensor x = normal_sample({1, 2, 2, 8}, DType::f32, 5);
  const Pool2dOptions options = {.window = int64_t{1} << 30, .stride = 1, .padding = (int64_t{1} << 29) - 1};
  const Doubles y = doubles(max_pool2d(x, options)), largest = doubles(max_pool2d(x));
  CHECK(y == largest);
  for (const double mean : doubles(avg_pool2d(x, options))) CHECK(std::abs(mean) < 1e-16);
}

TEST_CASE("pooling refuses options out of range, naming them") {
  const Tensor x = Tensor::ones({2, 5, 6, 3});
  for (const Pool pool : {Pool(max_pool2d), Pool(avg_pool2d)}) {
    const std::string op = pool == max_pool2d ? "max_pool2d: " : "avg_pool2d: ";
    const auto text = [&](const Pool2dOptions& options) { return error_of<Error>([&] { pool(x, options); }); };
    for (const int64_t value : {int64_t{-1}, int64_t{0}, INT64_MIN, INT64_MAX, (int64_t{1} << 30) + 1}) {
      CAPTURE(value);
      for (const Extent2d& both : {Extent2d(value, 1), Extent2d(1, value), Extent2d(value)}) {
        CHECK(contains(text({.window = both}), op));
        if (both != 0) CHECK(contains(text({.stride = both}), op + "stride " + std::to_string(value)));
        if (value != 0) CHECK(contains(text({.padding = both}), op));
      }
    }
    CHECK(contains(text({.window = 3, .padding = {2, 1}}), "more than half of the window"));
    CHECK(contains(text({.window = {6, 2}}), op + "the window reaches over 6"));
    CHECK(contains(text({.window = {2, 7}}), op + "the window reaches over 7"));
  }
}

TEST_CASE("pooling refuses what are no images, and dtypes that it does not compute in") {
  for (const Pool pool : {Pool(max_pool2d), Pool(avg_pool2d), Pool(global_pool)}) {
    const std::string op = pool == max_pool2d ? "max_pool2d" : pool == avg_pool2d ? "avg_pool2d" : "global_avg_pool2d";
    const auto text = [&](const Shape& shape) { return error_of<ShapeError>([&] { pool(Tensor::ones(shape), {}); }); };
    for (const Shape& shape : {Shape{}, Shape{4, 4, 3}, Shape{1, 4, 4, 3, 1}, Shape{2, 0, 4, 3}, Shape{2, 4, 0, 3}})
      CHECK(contains(text(shape), op + ": input " + shape.str()));
    for (const DType dtype : {DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64})
      CHECK(contains(error_of<DTypeError>([&] { pool(Tensor::ones({1, 4, 4, 1}, dtype), {}); }), op));
  }
  const Tensor wide = Tensor::ones({0, int64_t{1} << 20, int64_t{1} << 20, 1});
  CHECK(contains(error_of<ShapeError>([&] { max_pool2d(wide); }), "2^31 pixels"));
  const Tensor vast = Tensor::ones({0, int64_t{1} << 40, 4, 1});
  CHECK(contains(error_of<ShapeError>([&] { avg_pool2d(vast); }), "avg_pool2d: "));
}
