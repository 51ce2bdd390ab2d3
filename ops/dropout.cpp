// dropout:  y_i = x_i / (1 - p) if word_i >= p 2^32, else 0          dx_i = dy_i / (1 - p), or 0, by the same words
//
// Element i takes word i % 4 of Philox block next + i / 4, as uniform does. The generator's state, i64 [2] =
// {seed, next}, is advanced on its device; a second output keeps what it was, and backward draws the words again: a
// mask would cost memory, and on many a machine more time. What is dropped is 0 whatever it was, also a NaN.
#include <algorithm>
#include <array>
#include <cmath>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/philox.h>
#include <xent/ops/dropout.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t words_per_block = 4;
constexpr int64_t batch = 4 * cpu::philox_group;  // blocks drawn at once
constexpr int64_t grain = 1 << 6;                 // batches per chunk: 16k elements

Specs infer_dropout(std::span<const Spec> in, const Attrs& attrs) {
  const Spec &x = in[0], &state = in[1];
  const double p = attrs.as<DropoutAttrs>().p;
  require<ArgumentError>(p >= 0 && p <= 1, "dropout: a probability of {}; it must be in [0, 1]", p);
  require_computable("dropout", x);
  require<DTypeError>(state.dtype == DType::i64 && state.shape == Shape{2},
                      "dropout: the generator's state is {} {}; it must be i64 [2]", state.dtype, state.shape);
  return {x, {{2}, DType::i64}};
}

}  // namespace

namespace cpu {

// y = x where the words from block `next` on say so, scaled; else 0.
template <class T>
void mask(const T* x, T* y, int64_t elements, double p, uint64_t seed, uint64_t next) {
  const double bound = std::ceil(p * 0x1p32);  // word >= p 2^32 just if word >= this
  if (bound <= 0) {                            // p is 0: every bit stays
    parallel_for(elements, batch * words_per_block * grain,
                 [=](int64_t begin, int64_t end) { std::copy(x + begin, x + end, y + begin); });
    return;
  }
  if (bound >= 0x1p32) {  // no word is as large, and for p = 1 there is no scale
    std::fill_n(y, elements, T(0));
    return;
  }
  const auto least = static_cast<uint32_t>(bound);
  const T scale = static_cast<T>(1 / (1 - p));
  constexpr int64_t length = batch * words_per_block;
  parallel_for((elements + length - 1) / length, grain, [=](int64_t begin, int64_t end) {
    std::array<uint32_t, length> words;
    for (int64_t part = begin; part < end; ++part) {
      philox_words(seed, next + static_cast<uint64_t>(part * batch), batch, words.data());
      const T* from = x + part * length;
      T* to = y + part * length;
      const int64_t count = std::min(length, elements - part * length);
      for (int64_t i = 0; i < count; ++i) {
        const T kept = from[i] * scale;
        to[i] = words[static_cast<size_t>(i)] >= least ? kept : T(0);
      }
    }
  });
}

void dropout(const Call& call) {
  const Slice &x = call.in[0], &y = call.out[0];
  auto* state = call.in[1].as<int64_t>();
  auto* used = call.out[1].as<int64_t>();
  std::copy_n(state, 2, used);
  const int64_t blocks = x.shape.elements() / words_per_block + (x.shape.elements() % words_per_block != 0);
  state[1] = static_cast<int64_t>(static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(blocks));
  dispatch_compute(x.dtype, [&]<class T>() {
    mask(x.as<T>(), y.as<T>(), x.shape.elements(), call.attrs.as<DropoutAttrs>().p, static_cast<uint64_t>(used[0]),
         static_cast<uint64_t>(used[1]));
  });
}

void dropout_grad(const Call& call) {
  const Slice &dy = call.grad_out[0], &dx = call.grad_in[0];
  const auto* used = call.out[1].as<int64_t>();
  dispatch_compute(dx.dtype, [&]<class T>() {
    mask(dy.as<T>(), dx.as<T>(), dx.shape.elements(), call.attrs.as<DropoutAttrs>().p, static_cast<uint64_t>(used[0]),
         static_cast<uint64_t>(used[1]));
  });
}

}  // namespace cpu

namespace {

// Part of a block, part of a batch, several chunks; a state close to where its lower 32 bits overflow.
Samples dropout_samples(DType dtype) {
  const auto sample = [&](const Shape& shape, double p, int64_t next = 7) {
    return Sample{{normal_sample(shape, dtype, 1), Tensor::from<int64_t>({42, next}, {2})}, DropoutAttrs{p}};
  };
  return {sample({3, 5}, 0.5),  sample({}, 0.25),
          sample({7}, 0),       sample({7}, 1),
          sample({1031}, 0.75), sample({3 * grain * batch * words_per_block + 333}, 0.1, 0xFFFFFFF0)};
}

}  // namespace

constinit const Op dropout_op = {
    .name = "dropout",
    .formula = "y = x / (1 - p) with probability 1 - p, else 0",
    .inputs = 2,
    .infer = infer_dropout,
    .forward = {cpu::dropout, ON_CUDA(dropout)},
    .backward = {cpu::dropout_grad, ON_CUDA(dropout_grad)},
    .needs_in = nothing,
    .needs_out = 0b10,
    .differentiable = 0b01,
    .differentiable_out = 0b01,
    .updates = 0b10,
    .samples = dropout_samples,
};

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  return apply(dropout_op, {x, generator.state()}, DropoutAttrs{p})[0];
}

}  // namespace xent
