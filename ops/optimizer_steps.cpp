// sgd_step:   d = g + decay x;  v = momentum v + d;  x -= lr v            (Nesterov: x -= lr (d + momentum v))
// adam_step:  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//             x -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + epsilon)
//             weight decay: g += decay x before (Adam), or x -= lr decay x before (AdamW)
//             sgd's v and Adam's m are 0 where their size is below the smallest normal number.
// advance:    t += n
//
// Ops without a backward that update in place. Learning rate and step count are tensors, so that a replayed step reads
// what they are now. One pass over each array, in the parameter's type.
#include <cmath>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/parallel.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/cpu/optimizer_math.h>
#include <xent/ops/ops.h>
#include <xent/ops/optimizer_steps.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

constexpr int64_t grain = 1 << 14;  // elements per chunk

// The first `count` inputs are the parameter, its gradient and its state: all alike.
void require_alike(const char* op, std::span<const Spec> in, size_t count) {
  require<DTypeError>(is_computable(in[0].dtype), "{}: parameters are {}; use f32 or f64", op, in[0].dtype);
  for (size_t i = 1; i < count; ++i)
    require<ShapeError>(!in[i] || (in[i].shape == in[0].shape && in[i].dtype == in[0].dtype),
                        "{}: gradient or state of {} {} for a parameter of {} {}", op, in[i].dtype, in[i].shape,
                        in[0].dtype, in[0].shape);
}

void require_scalar(const char* op, const char* what, const Spec& spec, DType dtype) {
  require<ShapeError>(spec.shape == Shape{} && spec.dtype == dtype, "{}: {} is {} {}; it must be a scalar of {}", op,
                      what, spec.dtype, spec.shape, dtype);
}

Specs infer_sgd(std::span<const Spec> in, const Attrs& attrs) {
  require_alike("sgd_step", in, 3);
  require_scalar("sgd_step", "the learning rate", in[3], DType::f32);
  require<ArgumentError>(in[2] || attrs.as<SgdAttrs>().momentum == 0, "sgd_step: momentum {} needs a velocity",
                         attrs.as<SgdAttrs>().momentum);
  return {};
}

Specs infer_adam(std::span<const Spec> in, const Attrs&) {
  require_alike("adam_step", in, 4);
  require_scalar("adam_step", "the learning rate", in[4], DType::f32);
  require_scalar("adam_step", "the step count", in[5], DType::i64);
  return {};
}

Specs infer_advance(std::span<const Spec> in, const Attrs&) {
  require_scalar("advance", "the counter", in[0], DType::i64);
  return {};
}

}  // namespace

namespace cpu {

void sgd_step(const Call& call) {
  const SgdAttrs& options = call.attrs.as<SgdAttrs>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    T* x = call.in[0].as<T>();
    const T* g = call.in[1].as<T>();
    T* velocity = call.in[2].as<T>();
    const Sgd<T> sgd{static_cast<T>(*call.in[3].as<float>()), static_cast<T>(options.momentum),
                     static_cast<T>(options.weight_decay), options.nesterov};
    parallel_for(call.in[0].shape.elements(), grain, [&](int64_t begin, int64_t end) {
      optimizer_math<T>().sgd(sgd, x + begin, g + begin, velocity ? velocity + begin : nullptr, end - begin);
    });
  });
}

void adam_step(const Call& call) {
  const AdamAttrs& options = call.attrs.as<AdamAttrs>();
  dispatch_compute(call.in[0].dtype, [&]<class T>() {
    T* x = call.in[0].as<T>();
    const T* g = call.in[1].as<T>();
    T* m = call.in[2].as<T>();
    T* v = call.in[3].as<T>();
    const double rate = static_cast<double>(*call.in[4].as<float>());
    const auto steps = static_cast<double>(*call.in[5].as<int64_t>());
    Adam<T> adam{};
    adam.beta1 = static_cast<T>(options.beta1);
    adam.rest1 = static_cast<T>(1 - options.beta1);
    adam.beta2 = static_cast<T>(options.beta2);
    adam.rest2 = static_cast<T>(1 - options.beta2);
    adam.epsilon = static_cast<T>(options.epsilon);
    adam.size = static_cast<T>(rate / (1 - std::pow(options.beta1, steps)));
    adam.correction = static_cast<T>(1 / std::sqrt(1 - std::pow(options.beta2, steps)));
    adam.decay = static_cast<T>(options.decoupled ? 0 : options.weight_decay);
    adam.keep = static_cast<T>(options.decoupled ? 1 - rate * options.weight_decay : 1);
    parallel_for(call.in[0].shape.elements(), grain, [&](int64_t begin, int64_t end) {
      optimizer_math<T>().adam(adam, x + begin, g + begin, m + begin, v + begin, end - begin);
    });
  });
}

void advance(const Call& call) {
  int64_t& counter = *call.in[0].as<int64_t>();
  counter =
      static_cast<int64_t>(static_cast<uint64_t>(counter) + static_cast<uint64_t>(call.attrs.as<AdvanceAttrs>().by));
}

}  // namespace cpu

namespace {

Samples sgd_samples(DType dtype) {
  const Tensor rate = Tensor::scalar(0.1);
  const auto state = [&](uint64_t seed) { return normal_sample({33}, dtype, seed); };
  return {{{state(1), state(2), {}, rate}, SgdAttrs{0, 0.01, false}},
          {{state(3), state(4), state(5), rate}, SgdAttrs{0.9, 0, false}},
          {{state(6), state(7), state(8), rate}, SgdAttrs{0.9, 0.01, true}}};
}

Samples adam_samples(DType dtype) {
  const Tensor rate = Tensor::scalar(0.1), steps = Tensor::full({}, 3, DType::i64);
  const auto state = [&](uint64_t seed) { return normal_sample({33}, dtype, seed); };
  return {{{state(1), state(2), state(3), positive_sample({33}, dtype, 4), rate, steps},
           AdamAttrs{0.9, 0.999, 1e-8, 0.01, false}},
          {{state(5), state(6), state(7), positive_sample({33}, dtype, 8), rate, steps},
           AdamAttrs{0.9, 0.99, 1e-6, 0.01, true}}};
}

Samples advance_samples(DType) { return {{{Tensor::full({}, 41, DType::i64)}, AdvanceAttrs{1}}}; }

}  // namespace

constinit const Op sgd_step_op = {
    .name = "sgd_step",
    .formula = "v = momentum v + g + decay x;  x -= lr v",
    .inputs = 4,
    .infer = infer_sgd,
    .forward = {cpu::sgd_step, ON_CUDA(sgd_step)},
    .optional = 0b100,
    .updates = 0b0101,
    .joins = true,
    .samples = sgd_samples,
};

constinit const Op adam_step_op = {
    .name = "adam_step",
    .formula = "x -= lr m' / (sqrt(v') + epsilon), m' and v' the corrected moments",
    .inputs = 6,
    .infer = infer_adam,
    .forward = {cpu::adam_step, ON_CUDA(adam_step)},
    .updates = 0b001101,
    .joins = true,
    .samples = adam_samples,
};

constinit const Op advance_op = {
    .name = "advance",
    .formula = "t += n",
    .infer = infer_advance,
    .forward = {cpu::advance, ON_CUDA(advance)},
    .updates = 0b1,
    .samples = advance_samples,
};

void sgd_step(Tensor x, const Tensor& gradient, Tensor velocity, const Tensor& learning_rate,
              const SgdOptions& options) {
  apply(sgd_step_op, {x, gradient, velocity, learning_rate},
        SgdAttrs{options.momentum, options.weight_decay, options.nesterov});
}

void adam_step(Tensor x, const Tensor& gradient, Tensor m, Tensor v, const Tensor& learning_rate, const Tensor& step,
               const AdamOptions& options) {
  apply(adam_step_op, {x, gradient, m, v, learning_rate, step},
        AdamAttrs{options.beta1, options.beta2, options.epsilon, options.weight_decay, options.decoupled});
}

void advance(Tensor counter, int64_t by) { apply(advance_op, {counter}, AdvanceAttrs{by}); }

}  // namespace xent
