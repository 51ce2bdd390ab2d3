// dropout: which elements go, with which probability, the same ones in backward, others at the next call.
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>
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

// Whether element i is kept, by the definition.
bool kept(uint64_t seed, uint64_t block, size_t i, double p) {
  return philox_block(seed, block + i / 4)[i % 4] >= p * 0x1p32;
}

struct Pass {
  Tensor y, dx;
};

Pass pass(const Tensor& x, double p, Generator& generator, const Tensor& upstream) {
  Tape tape;
  tape.watch(x);
  const Tensor y = dropout(x, p, generator);
  return {y, tape.backward(y, {.upstream = upstream})[x]};
}

}  // namespace

TEST_CASE("element i is kept by word i of the sequence, forward and backward, and scaled") {
  const uint64_t seed = 0x123456789ABCDEF0;
  for (const int64_t block :
       {int64_t{0}, int64_t{5}, int64_t{0xFFFFFFFF}, int64_t{-3}})  // -3: the counter wraps around
    for (const double p : {0.1, 0.5, 0.8125, 1 - 0x1p-20}) {
      Generator generator = at_block(seed, block);
      const Tensor x = normal_sample({3, 1171}, DType::f32, 3), dy = normal_sample({3, 1171}, DType::f32, 4);
      const Pass both = pass(x, p, generator, dy);
      const Floats from = x.to_vector<float>(), y = both.y.to_vector<float>(), up = dy.to_vector<float>(),
                   dx = both.dx.to_vector<float>();
      const float scale = static_cast<float>(1 / (1 - p));
      int wrong = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        const bool keep = kept(seed, static_cast<uint64_t>(block), i, p);
        wrong += y[i] != (keep ? from[i] * scale : 0) || dx[i] != (keep ? up[i] * scale : 0);
      }
      CHECK(wrong == 0);
    }
}

TEST_CASE("a word just at the probability is kept, one below it is not") {
  const uint32_t word = philox_block(42, 0)[2];
  const auto third = [&](double p) {
    Generator generator(42);
    return dropout(Tensor::ones({3}, DType::f64), p, generator).to_vector<double>()[2];
  };
  CHECK(third(word * 0x1p-32) != 0);
  CHECK(third(word * 0x1p-32 + 0x1p-40) == 0);
  CHECK(third((word + 1.0) * 0x1p-32) == 0);
}

TEST_CASE("the share of zeros is p, also of neighbours, within five deviations") {
  constexpr int64_t n = 1 << 20;
  Generator generator(7);
  for (const double p : {0.01, 0.25, 0.5, 0.9}) {
    const Floats y = dropout(Tensor::ones({n}), p, generator).to_vector<float>();
    double zeros = 0, pairs = 0;
    for (size_t i = 0; i < y.size(); ++i) zeros += y[i] == 0;
    for (size_t i = 1; i < y.size(); ++i) pairs += y[i] == 0 && y[i - 1] == 0;
    CHECK(std::abs(zeros - n * p) < 5 * std::sqrt(n * p * (1 - p)));
    CHECK(std::abs(pairs - n * p * p) < 5 * std::sqrt(3 * n * p * p * (1 - p * p)));  // pairs overlap: at most 3 times
  }
}

TEST_CASE("with p = 0 every bit stays, with p = 1 everything is zero, and both advance the generator") {
  const float nan = std::bit_cast<float>(0x7FA00001u), infinity = std::numeric_limits<float>::infinity();  // signalling
  const Tensor x = Tensor::from({1.5, -0.0, nan, infinity, -infinity}, {5});
  Generator generator(1);
  const Floats from = x.to_vector<float>();
  for (const double p : {0.0, -0.0}) {
    const Pass all = pass(x, p, generator, x);
    CHECK(std::memcmp(all.y.to_vector<float>().data(), from.data(), 5 * sizeof(float)) == 0);
    CHECK(std::memcmp(all.dx.to_vector<float>().data(), from.data(), 5 * sizeof(float)) == 0);
  }
  const Pass none = pass(x, 1, generator, x);
  CHECK(none.y.to_vector<float>() == Floats(5, 0));
  CHECK(none.dx.to_vector<float>() == Floats(5, 0));
  CHECK(generator.state().to_vector<int64_t>() == Longs{1, 6});
}

TEST_CASE("what is dropped is zero, whatever it was") {
  Generator generator(2);
  const Floats y = dropout(Tensor::full({1000}, NAN), 0.5, generator).to_vector<float>();
  int zeros = 0;
  for (const float value : y) zeros += value == 0;
  CHECK((zeros > 400 && zeros < 600));
}

TEST_CASE("the state advances by the blocks used, so the next call draws another mask") {
  Generator generator(5);
  const auto state = [&] { return generator.state().to_vector<int64_t>(); };
  const Floats first = dropout(Tensor::ones({41}), 0.5, generator).to_vector<float>();
  CHECK(state() == Longs{5, 11});
  CHECK(dropout(Tensor::ones({41}), 0.5, generator).to_vector<float>() != first);
  CHECK(dropout(Tensor::ones({0, 3}), 0.5, generator).shape() == Shape{0, 3});
  CHECK(state() == Longs{5, 22});
  dropout(Tensor::ones({}), 0.5, generator);
  CHECK(state() == Longs{5, 23});
}

TEST_CASE("backward draws its own call's mask, however often, whatever was drawn since") {
  Generator generator(3);
  const Tensor x = Tensor::ones({1000}, DType::f64);
  Tape tape;
  tape.watch(x);
  const Tensor first = dropout(x, 0.5, generator), second = dropout(x, 0.25, generator);
  uniform({77}, 0, 1, generator);
  generator.set_seed(99);
  const Tensor loss = sum(mul(first, second));
  const std::vector<double> a = first.to_vector<double>(), b = second.to_vector<double>();
  std::vector<double> expected(a.size());
  for (size_t i = 0; i < a.size(); ++i) expected[i] = 2 * a[i] * b[i];
  const std::vector<double> once = tape.backward(loss, {.retain = true})[x].to_vector<double>();
  CHECK(once == expected);
  CHECK(tape.backward(loss, {.retain = true})[x].to_vector<double>() == once);
  CHECK(tape.backward(loss)[x].to_vector<double>() == once);
}

TEST_CASE("a replayed Step draws a new mask at every call, the one that a call without a Step would") {
  const Mode mode(Replay::on);
  Generator inside(6), outside(6);
  const Tensor x = normal_sample({20000}, DType::f32, 5), dy = normal_sample({20000}, DType::f32, 6);
  const auto function = [&](const Tensor& input, Generator& generator) {
    const Pass both = pass(input, 0.3, generator, dy);
    return std::array{both.y, both.dx};
  };
  Step step([&](const Tensor& input) { return function(input, inside); });
  Floats last;
  for (int call = 0; call < 6; ++call) {
    const auto replayed = step(x), plain = function(x, outside);
    for (size_t k = 0; k < plain.size(); ++k) CHECK(replayed[k].to_vector<float>() == plain[k].to_vector<float>());
    CHECK(inside.state().to_vector<int64_t>() == outside.state().to_vector<int64_t>());
    CHECK(plain[0].to_vector<float>() != last);
    last = plain[0].to_vector<float>();
  }
}

TEST_CASE("one, two and three threads draw the same mask") {
  const int before = threads();
  const Tensor x = normal_sample({100003}, DType::f32, 7);
  const auto run = [&] {
    Generator generator(3);
    const Pass both = pass(x, 0.4, generator, x);
    return std::array{both.y.to_vector<float>(), both.dx.to_vector<float>()};
  };
  set_threads(1);
  const auto one = run();
  for (const int count : {2, 3}) {
    set_threads(count);
    CHECK(run() == one);
  }
  set_threads(before);
}

TEST_CASE("a call that is refused leaves the generator where it was") {
  Generator generator(1);
  const Tensor x = Tensor::ones({4});
  CHECK_THROWS_WITH_AS(dropout(x, 1.5, generator), "dropout: a probability of 1.5; it must be in [0, 1]",
                       ArgumentError);
  CHECK_THROWS_AS(dropout(x, -1e-300, generator), ArgumentError);
  CHECK_THROWS_AS(dropout(x, std::nan(""), generator), ArgumentError);
  CHECK_THROWS_WITH_AS(dropout(Tensor::ones({4}, DType::f16), 0.5, generator),
                       "dropout: takes f32 and f64, not f16; cast first", DTypeError);
  {
    const Tensor parameter = Tensor::ones({4}).set_requires_grad();
    Tensor slope;
    Tape tape;
    {
      Tape inner;
      slope = inner.backward(sum(parameter * parameter))[parameter];
    }
    tape.watch(slope);
    CHECK_THROWS_AS(dropout(slope, 0.5, generator), TapeError);  // a second derivative
  }
  CHECK(generator.state().to_vector<int64_t>() == Longs{1, 0});
}
