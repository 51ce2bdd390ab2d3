// conv2d by Winograd's tiles against its definition. ctest runs it once per instruction set; where the baseline
// computes, all of it goes the way of the other convolutions, and must still be right.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/cpu/instruction_set.h>
#include <xent/ops/cpu/winograd.h>
#include <xent/xent.h>

#include "chance.h"
#include "conv2d_trial.h"
#include "machine_has_it.h"

using namespace xent;
using namespace conv2d_trial;

namespace {

bool serves(const Problem& p) { return cpu::Winograd::serves(convolution(p)); }

bool is_wide() { return cpu::instruction_set() != cpu::InstructionSet::baseline; }

// Several chunks of tiles in each of several parts, whole tiles and cut ones, chunks that end within an image.
const std::vector<Problem>& large_problems() {
  static const std::vector<Problem> problems = {
      {{17, 26, 26, 32}, {3, 3, 32, 64}, {.activation = Activation::relu}},
      {{33, 13, 14, 28}, {3, 3, 28, 41}, {.padding = 1, .activation = Activation::tanh}},
      {{1, 45, 41, 48}, {3, 3, 48, 16}, {.padding = {2, 0}}, false},
      {{3, 15, 15, 180}, {3, 3, 180, 300}, {.padding = 1}},
  };
  return problems;
}

}  // namespace

TEST_CASE("tiles serve 3 x 3 taps next to each other, of enough channels and pixels, where half the work is saved") {
  if (!machine_has_it()) return;
  const bool wide = is_wide();
  const Shape x{8, 12, 12, 16}, weight{3, 3, 16, 16};
  CHECK(serves({x, weight}) == wide);
  CHECK(serves({x, {3, 3, 16, 31}}) == wide);
  CHECK(serves({x, weight, {.padding = {40, 0}}}) == wide);
  CHECK_FALSE(serves({x, weight, {.stride = {1, 2}}}));
  CHECK_FALSE(serves({x, weight, {.dilation = {2, 1}}}));
  CHECK_FALSE(serves({x, {2, 3, 16, 16}}));
  CHECK_FALSE(serves({x, {3, 4, 16, 16}}));
  CHECK_FALSE(serves({{8, 12, 12, 15}, {3, 3, 15, 16}}));
  CHECK_FALSE(serves({x, {3, 3, 16, 15}}));
  CHECK_FALSE(serves({x, {3, 3, 16, 1 << 16}}));
  CHECK_FALSE(serves({{1, 12, 12, 16}, weight}));  // 100 pixels are too few to transform a weight for
  CHECK_FALSE(serves({{80, 7, 7, 16}, weight}));   // two tiles for 5 pixels
  CHECK_FALSE(serves({{900, 4, 4, 16}, weight}));  // one for 2
}

TEST_CASE("conv2d by tiles and its gradients, also added to others, are what the definition says") {
  if (!machine_has_it()) return;
  const bool poisoned = poison_fresh_memory(true);
  int served = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    Chance c(seed);
    Problem p;
    p.options.padding = {c.from(0, 5), c.from(0, 5)};
    p.options.activation = static_cast<Activation>(c.below(4));
    const int64_t in = c.any<int64_t>({16, 17, 24, 32, 33, 47}), out = c.any<int64_t>({16, 18, 31, 32, 40, 48});
    p.x = {c.from(2, 5), c.from(3, 19), c.from(3, 19), in};
    p.weight = {3, 3, in, out};
    p.bias = c.one_in(2);
    served += serves(p) ? 1 : 0;
    check(Trial(p, seed));
  }
  CHECK(served >= (is_wide() ? 15 : 0));
  poison_fresh_memory(poisoned);
}

TEST_CASE("conv2d by many tiles, or of many channels, is what the definition says") {
  if (!machine_has_it()) return;
  for (const Problem& problem : large_problems()) {
    CHECK(serves(problem) == is_wide());
    check(Trial(problem, 1));
  }
}

TEST_CASE("conv2d by tiles and its gradients have the same bits for any number of threads") {
  if (!machine_has_it()) return;
  for (const Problem& problem : large_problems()) check_threads(Trial(problem, 2));
}

TEST_CASE("conv2d by tiles computes each gradient alone as it does with the others") {
  if (!machine_has_it()) return;
  check_alone(Trial({{5, 11, 14, 20}, {3, 3, 20, 35}, {.padding = 1, .activation = Activation::sigmoid}}, 3));
}

TEST_CASE("conv2d by tiles does not hide a NaN, and spreads it no farther than the tiles that read it") {
  if (!machine_has_it()) return;
  Tensor x = Tensor::ones({2, 18, 18, 16});
  const int64_t row = 5, column = 9;
  x.mutable_data<float>()[((18 + row) * 18 + column) * 16 + 3] = NAN;
  const Tensor y = conv2d(x, Tensor::ones({3, 3, 16, 16}), {}, {.activation = Activation::relu});
  const Doubles values = doubles(y);
  const auto reads = [](int64_t first, int64_t reach, int64_t at) { return first <= at && at < first + reach; };
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t i = 0; i < 16; ++i)
      for (int64_t j = 0; j < 16; ++j) {
        CAPTURE(n);
        CAPTURE(i);
        CAPTURE(j);
        const bool nan = std::isnan(values[static_cast<size_t>(((n * 16 + i) * 16 + j) * 16)]);
        if (n == 1 && reads(i, 3, row) && reads(j, 3, column)) CHECK(nan);
        if (n == 0 || !reads(i / 4 * 4, 6, row) || !reads(j / 4 * 4, 6, column)) CHECK_FALSE(nan);
      }
}
