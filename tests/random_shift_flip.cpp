// random_shift_flip: every pixel comes from where the draws say, as often as they should, and its gradient goes back.
#include <array>
#include <cmath>
#include <map>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/gradcheck.h>
#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

#include "replay_mode.h"

using namespace xent;

namespace {

using Floats = std::vector<float>;
using Longs = std::vector<int64_t>;

Generator at_block(uint64_t seed, int64_t block) {
  Generator generator(seed);
  Tensor state = generator.state();
  state.mutable_data<int64_t>()[1] = block;
  return generator;
}

struct Draw {
  int64_t down, right;
  bool flip;
};

Draw draw_of(uint64_t seed, uint64_t block, const ShiftFlipOptions& o) {
  const auto words = philox_block(seed, block);
  const auto amount = [](uint32_t word, int64_t most) {
    return static_cast<int64_t>(std::floor(word * 0x1p-32 * static_cast<double>(2 * most + 1))) - most;
  };
  return {amount(words[0], o.shift.height), amount(words[1], o.shift.width), o.flip && words[2] % 2 == 1};
}

struct Pass {
  Tensor y, dx;
};

// Pixel by pixel: mirrors each image first, then moves it.
Pass reference(const Tensor& x, const Tensor& upstream, const ShiftFlipOptions& o, uint64_t seed, uint64_t block) {
  const int64_t n = x.shape()[0], h = x.shape()[1], w = x.shape()[2], channels = x.shape()[3];
  const Floats from = x.to_vector<float>(), up = upstream.to_vector<float>();
  Floats y(from.size(), static_cast<float>(o.fill)), dx(from.size(), 0);
  for (int64_t b = 0; b < n; ++b) {
    const Draw draw = draw_of(seed, block + static_cast<uint64_t>(b), o);
    for (int64_t i = 0; i < h; ++i)
      for (int64_t j = 0; j < w; ++j) {
        const int64_t to_i = i + draw.down, to_j = (draw.flip ? w - 1 - j : j) + draw.right;
        if (to_i < 0 || to_i >= h || to_j < 0 || to_j >= w) continue;
        for (int64_t c = 0; c < channels; ++c) {
          const auto here = static_cast<size_t>(((b * h + i) * w + j) * channels + c);
          const auto there = static_cast<size_t>(((b * h + to_i) * w + to_j) * channels + c);
          y[there] = from[here];
          dx[here] = up[there];
        }
      }
  }
  return {Tensor::from(y, x.shape()), Tensor::from(dx, x.shape())};
}

Pass pass(const Tensor& x, const Tensor& upstream, const ShiftFlipOptions& o, Generator& generator) {
  Tape tape;
  tape.watch(x);
  const Tensor y = random_shift_flip(x, o, generator);
  return {y, tape.backward(y, {.upstream = upstream})[x]};
}

bool equal(const Tensor& a, const Tensor& b) { return a.to_vector<float>() == b.to_vector<float>(); }

// What was drawn for each of `count` images, read from where two neighbouring pixels of theirs went.
std::vector<Draw> draws(int64_t count, int64_t most, bool flip, Generator& generator) {
  const int64_t extent = 4 * most + 3;  // the middle pixel and its neighbours never leave
  const int64_t pixels = extent * extent, middle = (2 * most + 1) * extent + 2 * most + 1;
  Floats one(static_cast<size_t>(pixels), 0);
  one[static_cast<size_t>(middle)] = 1;
  one[static_cast<size_t>(middle + 1)] = 2;
  Floats all;
  for (int64_t i = 0; i < count; ++i) all.insert(all.end(), one.begin(), one.end());
  const Tensor x = Tensor::from(all, {count, extent, extent, 1});
  const Floats y = random_shift_flip(x, {.shift = most, .flip = flip}, generator).to_vector<float>();
  std::vector<Draw> list;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t at = 0; at < pixels; ++at) {
      if (y[static_cast<size_t>(i * pixels + at)] != 1) continue;
      const bool flipped = y[static_cast<size_t>(i * pixels + at - 1)] == 2;
      list.push_back({at / extent - 2 * most - 1, at % extent - 2 * most - 1, flipped});
    }
  return list;
}

}  // namespace

TEST_CASE("every pixel comes from where its image's Philox block says, and its gradient goes back there") {
  const uint64_t seed = 0x123456789ABCDEF0;
  const std::vector<ShiftFlipOptions> options = {{},
                                                 {.flip = true, .fill = 7},
                                                 {.shift = 2, .fill = -0.25},
                                                 {.shift = {0, 3}, .flip = true, .fill = 1},
                                                 {.shift = {5, 0}, .flip = true},
                                                 {.shift = {5, 4}, .flip = true, .fill = 3}};  // of the whole image
  for (const int64_t block : {int64_t{0}, int64_t{0xFFFFFFF0}, int64_t{-5}})  // -5: the counter wraps around
    for (const ShiftFlipOptions& o : options)
      for (const int64_t channels : {1, 3}) {
        const Tensor x = normal_sample({40, 5, 4, channels}, DType::f32, 1),
                     up = normal_sample(x.shape(), DType::f32, 2);
        Generator generator = at_block(seed, block);
        const Pass got = pass(x, up, o, generator), expected = reference(x, up, o, seed, static_cast<uint64_t>(block));
        CHECK(equal(got.y, expected.y));
        CHECK(equal(got.dx, expected.dx));
        CHECK(generator.state().to_vector<int64_t>() == Longs{static_cast<int64_t>(seed), block + 40});
      }
}

TEST_CASE("the second output holds what was drawn, and is a constant to the tape") {
  Generator generator(11);
  const Tensor x = Tensor::ones({50, 6, 5, 1});
  const Op& op = random_shift_flip_op;
  Attrs attrs = op.samples(DType::f32)[0].attrs;  // shifts of 2 with a flip
  Tape tape;
  tape.watch(x);
  const Tensors out = apply(op, {x, generator.state()}, attrs);
  CHECK(out[1].shape() == Shape{50, 3});
  const std::vector<int32_t> drawn = out[1].to_vector<int32_t>();
  for (size_t i = 0; i < 50; ++i) {
    const Draw draw = draw_of(11, i, {.shift = 2, .flip = true});
    CHECK(drawn[3 * i] == draw.down);
    CHECK(drawn[3 * i + 1] == draw.right);
    CHECK(drawn[3 * i + 2] == draw.flip);
  }
  CHECK(tape.kept_bytes() == 50 * 3 * sizeof(int32_t));  // neither images
  CHECK_THROWS_AS(tape.backward(cast(out[1], DType::f32), {.upstream = Tensor::ones({50, 3})}), TapeError);
}

TEST_CASE("each amount is drawn equally often, within five deviations, and half of the images are flipped") {
  constexpr int64_t most = 2, count = 20000;
  Generator generator(7);
  const std::vector<Draw> list = draws(count, most, true, generator);
  REQUIRE(list.size() == count);
  std::map<std::array<int64_t, 3>, double> seen;  // all three together: they do not hang on each other
  for (const Draw& draw : list) ++seen[{draw.down, draw.right, draw.flip}];
  CHECK(seen.size() == 50);
  for (const auto& [draw, times] : seen) CHECK(std::abs(times - count / 50.0) < 5 * std::sqrt(count / 50.0));
}

TEST_CASE("without a flip none is mirrored, without a shift none moves, and the generator still goes on") {
  Generator generator(3);
  for (const Draw& draw : draws(500, 1, false, generator)) CHECK(!draw.flip);
  const Tensor x = normal_sample({6, 4, 3, 2}, DType::f32, 4);
  CHECK(equal(random_shift_flip(x, {}, generator), x));
  CHECK(generator.state().to_vector<int64_t>() == Longs{3, 506});
}

TEST_CASE("a replayed Step draws new amounts at every call, the ones that a call without a Step would") {
  const Mode mode(Replay::on);
  Generator inside(6), outside(6);
  const ShiftFlipOptions o{.shift = 3, .flip = true, .fill = 0.5};
  const Tensor x = normal_sample({32, 9, 8, 1}, DType::f32, 5), up = normal_sample(x.shape(), DType::f32, 6);
  Step step([&](const Tensor& images) {
    const Pass both = pass(images, up, o, inside);
    return std::array{both.y, both.dx};
  });
  Floats last;
  for (int call = 0; call < 6; ++call) {
    const auto replayed = step(x);
    const Pass plain = pass(x, up, o, outside);
    CHECK(equal(replayed[0], plain.y));
    CHECK(equal(replayed[1], plain.dx));
    CHECK(inside.state().to_vector<int64_t>() == outside.state().to_vector<int64_t>());
    CHECK(plain.y.to_vector<float>() != last);
    last = plain.y.to_vector<float>();
  }
}

TEST_CASE("backward moves by its own call's draws, whatever was drawn since") {
  Generator generator(3);
  const ShiftFlipOptions o{.shift = 2, .flip = true};
  const Tensor x = normal_sample({30, 6, 6, 1}, DType::f32, 1), up = normal_sample(x.shape(), DType::f32, 2);
  Tape tape;
  tape.watch(x);
  const Tensor y = random_shift_flip(x, o, generator);
  random_shift_flip(x, o, generator);
  generator.set_seed(99);
  CHECK(equal(tape.backward(y, {.upstream = up})[x], reference(x, up, o, 3, 0).dx));
}

TEST_CASE("its gradient is the one that differences give") {
  const GradientReport report = check_op(random_shift_flip_op);
  CHECK_MESSAGE(report.passed, report.message);
}

TEST_CASE("one, two and three threads move alike, images of a megapixel too") {
  const int before = threads();
  for (const Shape& shape : {Shape{5000, 6, 6, 1}, Shape{2, 700, 500, 3}}) {
    const Tensor x = normal_sample(shape, DType::f32, 7);
    const auto run = [&] {
      Generator generator(3);
      const Pass both = pass(x, x, {.shift = 5, .flip = true}, generator);
      return std::array{both.y.to_vector<float>(), both.dx.to_vector<float>()};
    };
    set_threads(1);
    const auto one = run();
    for (const int count : {2, 3}) {
      set_threads(count);
      CHECK(run() == one);
    }
  }
  set_threads(before);
}

TEST_CASE("images without a pixel stay so, and take their blocks") {
  Generator generator(1);
  for (const Shape& shape : {Shape{0, 4, 4, 1}, Shape{3, 0, 4, 1}, Shape{3, 4, 0, 1}, Shape{3, 4, 4, 0}})
    CHECK(random_shift_flip(Tensor::ones(shape), {.flip = true}, generator).shape() == shape);
  CHECK(generator.state().to_vector<int64_t>() == Longs{1, 9});
}

TEST_CASE("shifts beyond the image, a fill that is no number and other shapes are refused, and nothing is drawn") {
  Generator generator(1);
  const Tensor x = Tensor::ones({2, 5, 4, 1});
  CHECK_THROWS_WITH_AS(
      random_shift_flip(x, {.shift = {6, 0}}, generator),
      "random_shift_flip: shifts by up to 6 rows and 0 columns of images [2, 5, 4, 1]; they must be in "
      "[0, 5] and [0, 4]",
      ArgumentError);
  for (const int64_t amount : {int64_t{-1}, INT64_MIN, INT64_MAX, int64_t{1} << 31}) {
    CHECK_THROWS_AS(random_shift_flip(x, {.shift = {amount, 0}}, generator), ArgumentError);
    CHECK_THROWS_AS(random_shift_flip(x, {.shift = {0, amount}}, generator), ArgumentError);
  }
  for (const double fill : {std::nan(""), HUGE_VAL, 1e39})
    CHECK_THROWS_AS(random_shift_flip(x, {.fill = fill}, generator), ArgumentError);
  CHECK_THROWS_AS(random_shift_flip(Tensor::ones({5, 4, 1}), {}, generator), ShapeError);
  CHECK_THROWS_AS(random_shift_flip(Tensor::ones({2, 5, 4, 1}, DType::u8), {}, generator), DTypeError);
  CHECK(generator.state().to_vector<int64_t>() == Longs{1, 0});
}
