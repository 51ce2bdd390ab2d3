// uniform and normal on CUDA; ops/random.cpp has the formulas. A thread draws a Philox block, four numbers: element i
// comes from word i % 4 of block next + i / 4, as on the CPU, so uniform gives the same bits, and normal does but for
// the last bit of the device's logarithm, sine and cosine of f64.
//
// The state {seed, next} stays on the device. All of a launch read it, so a second launch advances it.
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <xent/core/convert.h>
#include <xent/core/random.h>
#include <xent/cuda/call.cuh>
#include <xent/cuda/unfused.cuh>
#include <xent/ops/random_attrs.h>

namespace xent::cuda {

namespace {

constexpr int64_t words_per_block = 4;
using Words = std::array<uint32_t, words_per_block>;

template <class T>
struct Uniform {
  T low, width, largest;  // largest: low + width u can round up to high, which is not in the interval

  __device__ void operator()(const Words& words, T* values) const {
    for (size_t i = 0; i < words_per_block; ++i) {
      const T u = sizeof(T) == sizeof(float) ? static_cast<T>(to_unit(words[i])) : static_cast<T>(words[i] * 0x1p-32);
      const T value = multiply_add(width, u, low);
      values[i] = value < largest ? value : largest;
    }
  }
};

template <class T>
struct Normal {
  double mean, deviation;

  __device__ void operator()(const Words& words, T* values) const {
    for (size_t i = 0; i < words_per_block; i += 2) {
      const double radius = std::sqrt(-2 * std::log((words[i] + 1.0) * 0x1p-32));
      const double angle = 2 * std::numbers::pi * (words[i + 1] * 0x1p-32);
      values[i] = static_cast<T>(multiply_add(deviation, radius * std::cos(angle), mean));
      values[i + 1] = static_cast<T>(multiply_add(deviation, radius * std::sin(angle), mean));
    }
  }
};

template <class T, class Numbers>
__global__ void draw(Numbers numbers, const int64_t* state, T* y, int64_t count) {
  const auto seed = static_cast<uint64_t>(state[0]), next = static_cast<uint64_t>(state[1]);
  for (int64_t i = first_index(); i * words_per_block < count; i += grid_stride()) {
    T values[words_per_block];
    numbers(philox_block(seed, next + static_cast<uint64_t>(i)), values);
    for (int64_t k = 0; k < words_per_block; ++k)
      if (i * words_per_block + k < count) y[i * words_per_block + k] = values[k];
  }
}

__global__ void advance_state(const ErrorRecord* errors, int64_t* state, int64_t blocks) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  state[1] = static_cast<int64_t>(static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(blocks));
}

template <class T, class Numbers>
void fill(const Call& call, const char* name, const Numbers& numbers) {
  auto* state = call.in[0].as<int64_t>();
  const int64_t count = call.out[0].shape.elements();
  const int64_t blocks = count / words_per_block + (count % words_per_block != 0);
  start(call, name, {blocks_for(blocks)}, draw<T, Numbers>, numbers, state, call.out[0].as<T>(), count);
  start(call, name, {1, 1}, advance_state, errors_of(call), state, blocks);
}

}  // namespace

void uniform(const Call& call) {
  const auto& attrs = call.attrs.as<RandomAttrs>();
  dispatch_compute(attrs.dtype, [&]<class T>() {
    const T low = convert<T>(attrs.first), high = convert<T>(attrs.second);
    fill<T>(call, "uniform", Uniform<T>{low, high - low, std::nextafter(high, low)});
  });
}

void normal(const Call& call) {
  const auto& attrs = call.attrs.as<RandomAttrs>();
  dispatch_compute(attrs.dtype, [&]<class T>() { fill<T>(call, "normal", Normal<T>{attrs.first, attrs.second}); });
}

}  // namespace xent::cuda
