// Random numbers on the GPU: those of the CPU, element for element, whatever the sizes and wherever the sequence is.
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/random.h>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

constexpr int64_t sizes[] = {0, 1, 2, 3, 4, 5, 31, 32, 33, 65, 255, 256, 257, 1023, 1025, 4099};
constexpr int64_t starts[] = {0, 7, 0xFFFFFFFE, -1};  // -1: the last block before the sequence wraps around

Generator at_block(uint64_t seed, int64_t block, Device device) {
  Generator generator(seed, device);
  Tensor(generator.state()).copy_from(Tensor::from<int64_t>({static_cast<int64_t>(seed), block}, {2}));
  return generator;
}

// A copy on a device that begins `before` elements behind the beginning of its memory.
Tensor copy_on(Device device, const Tensor& x, int64_t before) {
  Tensor there = Tensor::zeros({before + x.elements()}, x.dtype(), device).view(x.shape(), before);
  there.copy_from(x);
  return there;
}

// Makes tensors on the CPU and in every order on the GPU; they must have the same bits.
template <class F>
void check_same(const F& make) {
  const std::vector<Tensor> expected = make(Device::cpu());
  const std::vector<Tensor> got = in_every_order([&] { return make(Device::cuda()); });
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i], expected[i]));
}

// What an op of x and a generator gives, the gradient for this upstream, and the generator's state.
template <class F>
std::vector<Tensor> pass(const F& op, const Tensor& x, const Tensor& upstream, int64_t before, int64_t start,
                         Device device) {
  Generator generator = at_block(42, start, device);
  const Tensor in = copy_on(device, x, before);
  Tape tape;
  tape.watch(in);
  const Tensor y = op(in, generator);
  const Gradients gradients = tape.backward(y, {.upstream = copy_on(device, upstream, before)});
  return {y, gradients[in], generator.state()};
}

}  // namespace

TEST_CASE("uniform and normal: the numbers of the CPU, and the generator is where it is there") {
  for (const int64_t size : sizes)
    for (const int64_t start : starts) {
      CAPTURE(size);
      CAPTURE(start);
      check_same([&](Device device) {
        Generator generator = at_block(42, start, device);
        const Tensor u = uniform({size}, 1, 2, generator), n = normal({size}, 3, 2, generator);
        return std::vector{u, n, uniform({size}, 1, 2, generator, DType::f64), generator.state()};
      });
    }
}

// The logarithm, sine and cosine of f64 are good to two units of the last place on a GPU. Times deviation and the
// largest radius, 2 x 6.7, with some roundings: 14 units of 2^-50.
TEST_CASE("normal in f64: the numbers of the CPU but for the last bits") {
  for (const int64_t size : sizes)
    for (const int64_t start : starts) {
      CAPTURE(size);
      CAPTURE(start);
      const auto numbers = [&](Device device) {
        Generator generator = at_block(42, start, device);
        return normal({size}, 3, 2, generator, DType::f64);
      };
      const std::vector<double> want = numbers(Device::cpu()).to_vector<double>();
      const std::vector<double> got = in_every_order([&] { return numbers(Device::cuda()); })[0].to_vector<double>();
      REQUIRE(got.size() == want.size());
      for (size_t i = 0; i < got.size(); ++i) CHECK(std::abs(got[i] - want[i]) <= 14 * 0x1p-50);
    }
}

TEST_CASE("uniform: more numbers than a grid has threads") {
  if (looks_for_races) return;
  const Shape shape{4 * 4096 * 256 + 5};
  Generator here(1), there(1, Device::cuda());
  CHECK(same_bits(uniform(shape, -1, 1, there).to(Device::cpu()), uniform(shape, -1, 1, here)));
}

TEST_CASE("dropout: the masks of the CPU, forward and backward, for every size and alignment") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : sizes)
      for (const int64_t before : {0, 1})
        for (const double p : {0.0, 1e-10, 0.1, 0.5, 1 - 1e-12, 1.0}) {
          CAPTURE(size);
          CAPTURE(before);
          CAPTURE(p);
          const Tensor x = normal_sample({size}, dtype, 1), upstream = normal_sample({size}, dtype, 2);
          const auto op = [&](const Tensor& in, Generator& generator) { return dropout(in, p, generator); };
          check_same([&](Device device) { return pass(op, x, upstream, before, 0xFFFFFFFE, device); });
        }
}

TEST_CASE("dropout: what is dropped is 0 whatever it was, and with p = 0 every bit stays") {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values;
  for (int i = 0; i < 41; ++i) values.insert(values.end(), {nan, inf, -inf, -nan, -0.0f});
  const Tensor x = Tensor::from(values, {205}).to(Device::cuda());
  Generator generator(1, Device::cuda());
  CHECK(same_bits(dropout(x, 0, generator).to(Device::cpu()), x.to(Device::cpu())));
  int dropped = 0;
  for (const float y : dropout(x, 0.75, generator).to_vector<float>()) dropped += y == 0 && !std::signbit(y);
  CHECK(dropped > 120);
}

TEST_CASE("dropout: more elements than a grid has threads") {
  if (looks_for_races) return;
  const Tensor x = Tensor::ones({4 * 4096 * 256 + 5});
  const auto op = [](const Tensor& in, Generator& generator) { return dropout(in, 0.5, generator); };
  const auto expected = pass(op, x, x, 0, 3, Device::cpu()), got = pass(op, x, x, 0, 3, Device::cuda());
  for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i].to(Device::cpu()), expected[i]));
}

TEST_CASE("dropout: of all words, the one that is p 2^32 itself stays") {
  const double p = philox_block(7, 0)[0] * 0x1p-32;  // the first element's
  for (const int64_t count : {4, 3})
    for (const Device device : {Device::cpu(), Device::cuda()}) {
      Generator generator(7, device);
      const Tensor y = dropout(Tensor::ones({count}, DType::f32, device), p, generator);
      CHECK(y.slice(0, 1).item() != 0);
    }
}

TEST_CASE("random_shift_flip: the choices of the CPU, forward and backward") {
  struct Images {
    Shape shape;
    ShiftFlipOptions options;
  };
  for (const DType dtype : {DType::f32, DType::f64})
    for (const auto& [shape, options] :
         {Images{{0, 3, 3, 1}, {.shift = 1}}, Images{{3, 0, 5, 1}, {.flip = true}},
          Images{{1, 1, 1, 1}, {.shift = 1, .flip = true, .fill = 3}},
          Images{{9, 5, 4, 3}, {.shift = 2, .flip = true, .fill = -0.5}},
          Images{{6, 4, 7, 1}, {.shift = {4, 7}, .flip = true}}, Images{{3, 2, 33, 2}, {.shift = {0, 3}, .flip = true}},
          Images{{300, 2, 3, 1}, {.shift = 1, .flip = true}}})
      for (const int64_t start : starts) {
        CAPTURE(shape.str());
        CAPTURE(start);
        const Tensor x = normal_sample(shape, dtype, 1), upstream = normal_sample(shape, dtype, 2);
        const auto op = [&, o = options](const Tensor& in, Generator& g) { return random_shift_flip(in, o, g); };
        check_same([&](Device device) { return pass(op, x, upstream, 1, start, device); });
      }
}

TEST_CASE("random_shift_flip: more rows than a grid has warps") {
  if (looks_for_races) return;
  const Tensor x = normal_sample({1200, 28, 2, 1}, DType::f32, 1);
  const auto op = [](const Tensor& in, Generator& g) { return random_shift_flip(in, {.shift = 1, .flip = true}, g); };
  const auto expected = pass(op, x, x, 0, 3, Device::cpu()), got = pass(op, x, x, 0, 3, Device::cuda());
  for (size_t i = 0; i < got.size(); ++i) CHECK(same_bits(got[i].to(Device::cpu()), expected[i]));
}
