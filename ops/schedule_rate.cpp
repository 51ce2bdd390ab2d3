// schedule_rate:  rate = base factor(n)
//   n < warmup:   factor = (n + 1) / warmup                                   k = n - warmup otherwise, and
//   constant:     factor = 1
//   step:         factor = f^floor(k / steps)
//   linear:       factor = (1 - t) + last t                                   t = min(k / steps, 1)
//   cosine:       factor = (1 - s) + last s                                   s = (1 - cos(pi t)) / 2
//
// Written so, both are 1 at first and `last` at last to the bit, however small or large it is.
// The count n is on the device, so a replayed step follows the schedule. Source of the cosine: Loshchilov and Hutter,
// "SGDR", 2017.
#include <cmath>

#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/ops.h>
#include <xent/ops/schedule_rate.h>

namespace xent {

namespace {

Specs infer_schedule(std::span<const Spec> in, const Attrs& attrs) {
  const ScheduleOptions& o = attrs.as<ScheduleAttrs>().options;
  for (const size_t i : {size_t{0}, size_t{1}, size_t{2}}) {
    const DType dtype = i == 2 ? DType::i64 : DType::f32;
    require<ShapeError>(in[i].shape == Shape{} && in[i].dtype == dtype,
                        "schedule_rate: input {} is {} {}; it must be a scalar of {}", i, in[i].dtype, in[i].shape,
                        dtype);
  }
  require<ArgumentError>(o.decay >= Decay::constant && o.decay <= Decay::cosine,
                         "schedule_rate: decay {} is none of constant, step, linear, cosine",
                         static_cast<int>(o.decay));
  require<ArgumentError>(o.warmup >= 0 && o.steps >= 1,
                         "schedule_rate: warmup {} and steps {} must be at least 0 and 1", o.warmup, o.steps);
  require<ArgumentError>(o.factor > 0 && std::isfinite(o.factor) && o.last >= 0 && std::isfinite(o.last),
                         "schedule_rate: factor {} and last {} must be finite, positive and not negative", o.factor,
                         o.last);
  return {};
}

}  // namespace

namespace cpu {

void schedule_rate(const Call& call) {
  const double factor = factor_of(call.attrs.as<ScheduleAttrs>().options, *call.in[2].as<int64_t>());
  *call.in[0].as<float>() = static_cast<float>(static_cast<double>(*call.in[1].as<float>()) * factor);
}

}  // namespace cpu

namespace {

Samples schedule_samples(DType) {
  const auto sample = [](const ScheduleOptions& options, int64_t count) {
    return Sample{{Tensor::scalar(1), Tensor::scalar(0.1), Tensor::full({}, static_cast<double>(count), DType::i64)},
                  ScheduleAttrs{options}};
  };
  return {sample({}, 7), sample({.decay = Decay::cosine, .warmup = 5, .steps = 10}, 3),
          sample({.decay = Decay::cosine, .warmup = 5, .steps = 10, .last = 0.01}, 12),
          sample({.decay = Decay::linear, .steps = 10}, 4), sample({.decay = Decay::step, .steps = 3}, 8)};
}

}  // namespace

constinit const Op schedule_rate_op = {
    .name = "schedule_rate",
    .formula = "rate = base factor(count), constant, in steps, linear or cosine after a linear warm-up",
    .inputs = 3,
    .infer = infer_schedule,
    .forward = {cpu::schedule_rate, ON_CUDA(schedule_rate)},
    .updates = 0b1,
    .samples = schedule_samples,
};

void schedule_rate(Tensor rate, const Tensor& base, const Tensor& count, const ScheduleOptions& options) {
  apply(schedule_rate_op, {rate, base, count}, ScheduleAttrs{options});
}

}  // namespace xent
