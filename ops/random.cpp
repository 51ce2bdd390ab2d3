// uniform:  y_i = low + (high - low) u_i                          u_i in [0, 1)
// normal:   y_2i     = mean + deviation r_i cos(t_i)               r_i = sqrt(-2 log u),  u in (0, 1]
//           y_2i + 1 = mean + deviation r_i sin(t_i)               t_i = 2 pi v,          v in [0, 1)
//
// Element i takes word i % 4 of Philox block next + i / 4; normal (Box-Muller) takes words in pairs. The generator's
// state, i64 [2] = {seed, next}, is read and advanced on its device, so a replayed Step draws new numbers.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/ops.h>
#include <xent/ops/random_attrs.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 12;  // Philox blocks per chunk
constexpr int64_t words_per_block = 4;

Specs infer_random(const char* op, const Spec& state, const RandomAttrs& attrs) {
  require<DTypeError>(state.dtype == DType::i64 && state.shape == Shape{2},
                      "{}: the generator's state is {} {}; it must be i64 [2]", op, state.dtype, state.shape);
  require_computable(op, {attrs.shape, attrs.dtype});
  return {{attrs.shape, attrs.dtype}};
}

Specs infer_uniform(std::span<const Spec> in, const Attrs& attributes) {
  const auto& attrs = attributes.as<RandomAttrs>();
  Specs out = infer_random("uniform", in[0], attrs);
  const bool fits = dispatch_compute(attrs.dtype, [&]<class T>() {
    const T low = convert<T>(attrs.first), high = convert<T>(attrs.second);
    return low < high && std::isfinite(high - low);
  });
  require<ArgumentError>(fits, "uniform: [{}, {}) of {}: low must be below high, and high - low finite", attrs.first,
                         attrs.second, attrs.dtype);
  return out;
}

Specs infer_normal(std::span<const Spec> in, const Attrs& attributes) {
  const auto& attrs = attributes.as<RandomAttrs>();
  const double mean = attrs.first, deviation = attrs.second;
  require<ArgumentError>(std::isfinite(mean) && deviation >= 0 && std::isfinite(deviation),
                         "normal: mean {}, deviation {}: both must be finite, and the deviation not negative", mean,
                         deviation);
  return infer_random("normal", in[0], attrs);
}

}  // namespace

namespace cpu {

// Fills out block by block: y[0..3] = numbers(the block's four words). Advances the state past the blocks used.
template <class T, class Numbers>
void fill_from_blocks(const Call& call, const Numbers& numbers) {
  const Slice& out = call.out[0];
  auto* state = call.in[0].as<int64_t>();
  const auto seed = static_cast<uint64_t>(state[0]), next = static_cast<uint64_t>(state[1]);
  const int64_t elements = out.shape.elements(), blocks = (elements + words_per_block - 1) / words_per_block;
  T* y = out.as<T>();
  parallel_for(blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const std::array<T, words_per_block> values = numbers(philox_block(seed, next + static_cast<uint64_t>(block)));
      const int64_t at = block * words_per_block;
      std::copy_n(values.begin(), std::min(words_per_block, elements - at), y + at);
    }
  });
  state[1] = static_cast<int64_t>(next + static_cast<uint64_t>(blocks));
}

void uniform(const Call& call) {
  const auto& attrs = call.attrs.as<RandomAttrs>();
  dispatch_compute(attrs.dtype, [&]<class T>() {
    const T low = convert<T>(attrs.first), high = convert<T>(attrs.second);
    // For u next to 1, low + (high - low) u can round up to high, which is not in the interval: [1, 2) in f32 does.
    const T largest = std::nextafter(high, low);
    fill_from_blocks<T>(call, [=](const std::array<uint32_t, 4>& words) {
      std::array<T, words_per_block> values;
      for (size_t i = 0; i < words.size(); ++i) {
        const T u = sizeof(T) == sizeof(float) ? static_cast<T>(to_unit(words[i])) : static_cast<T>(words[i] * 0x1p-32);
        values[i] = std::min(low + (high - low) * u, largest);
      }
      return values;
    });
  });
}

void normal(const Call& call) {
  const auto& attrs = call.attrs.as<RandomAttrs>();
  const double mean = attrs.first, deviation = attrs.second;
  dispatch_compute(attrs.dtype, [&]<class T>() {
    fill_from_blocks<T>(call, [=](const std::array<uint32_t, 4>& words) {
      std::array<T, words_per_block> values;
      for (size_t i = 0; i < words.size(); i += 2) {
        const double radius = std::sqrt(-2 * std::log((words[i] + 1.0) * 0x1p-32));
        const double angle = 2 * std::numbers::pi * (words[i + 1] * 0x1p-32);
        values[i] = static_cast<T>(mean + deviation * (radius * std::cos(angle)));
        values[i + 1] = static_cast<T>(mean + deviation * (radius * std::sin(angle)));
      }
      return values;
    });
  });
}

}  // namespace cpu

namespace {

// A state of its own per sample: the op advances it. The last shape takes several chunks.
template <int first, int second>
Samples samples(DType dtype) {
  const auto sample = [&](const Shape& shape) {
    return Sample{{Tensor::from<int64_t>({42, 7}, {2})}, RandomAttrs{shape, dtype, first, second}};
  };
  return {sample({}), sample({3, 5}), sample({4}), sample({5 * grain + 2})};
}

}  // namespace

constinit const Op uniform_op = {
    .name = "uniform",
    .formula = "y = low + (high - low) u",
    .infer = infer_uniform,
    .forward = {cpu::uniform, ON_CUDA(uniform)},
    .updates = 0b1,
    .samples = samples<-1, 2>,
};

constinit const Op normal_op = {
    .name = "normal",
    .formula = "y = mean + deviation sqrt(-2 log u) cos(2 pi v)",
    .infer = infer_normal,
    .forward = {cpu::normal, ON_CUDA(normal)},
    .updates = 0b1,
    .samples = samples<3, 2>,
};

Tensor uniform(const Shape& shape, double low, double high, Generator& generator, DType dtype) {
  return apply(uniform_op, {generator.state()}, RandomAttrs{shape, dtype, low, high})[0];
}

Tensor normal(const Shape& shape, double mean, double deviation, Generator& generator, DType dtype) {
  return apply(normal_op, {generator.state()}, RandomAttrs{shape, dtype, mean, deviation})[0];
}

}  // namespace xent
