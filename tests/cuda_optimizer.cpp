// Updates on the GPU: optimizer steps, schedules and clipping against their formulas in f64, and that nothing is
// updated while a bad label is on record.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include <xent/core/memory.h>
#include <xent/cuda/error_record.h>
#include <xent/ops/clip_attrs.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

using Doubles = std::vector<double>;

constexpr int64_t sizes[] = {0, 1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 100, 255, 256, 257, 1023, 1024, 1025, 2053};

// A copy there that begins `before` elements behind the beginning of its memory.
Tensor on_cuda(const Tensor& x, int64_t before = 0) {
  Tensor there = Tensor::zeros({before + x.elements()}, x.dtype(), Device::cuda()).view(x.shape(), before);
  there.copy_from(x);
  return there;
}

Doubles doubles(const Tensor& x) { return cast(x, DType::f64).to_vector<double>(); }

double epsilon_of(DType dtype) {
  return dtype == DType::f32 ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
}

// Calls the kernel of an op with a record of its own. Returns the inputs that the op updates, as they are afterwards.
std::vector<Tensor> updated(const Op& op, const Sample& sample, cuda::ErrorRecord::Kind kind) {
  const Device device = Device::cuda();
  cuda::ErrorRecord record;
  record.kind = kind;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&record);
  const Tensor errors = Tensor::from(std::vector<uint8_t>(bytes, bytes + sizeof(record)), {sizeof(record)}, device);
  std::vector<Tensor> inputs, outputs, changed;
  std::vector<Slice> in, out;
  Specs specs;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    const Tensor& input = sample.inputs[i];
    inputs.push_back(input ? on_cuda(input) : input);
    in.push_back(slice_of(inputs[i]));
    specs.push_back({input.shape(), input.dtype(), static_cast<bool>(input)});
    if (input && op.updates >> i & 1) changed.push_back(inputs[i]);
  }
  for (const Spec& spec : op.infer({specs.data(), specs.size()}, sample.attrs)) {
    outputs.push_back(Tensor::empty(spec.shape, spec.dtype, device));
    out.push_back(slice_of(outputs.back()));
  }
  Call call{.in = in, .out = out, .attrs = sample.attrs, .stream = memory(device).stream(0)};
  call.stream.errors = errors.raw();
  const size_t room = op.forward.cuda_workspace ? op.forward.cuda_workspace(call) : 0;
  const Tensor workspace = Tensor::empty({static_cast<int64_t>(room)}, DType::u8, device);
  call.workspace = workspace.raw();
  op.forward.cuda(call);
  std::vector<Tensor> host;
  for (const Tensor& tensor : changed) host.push_back(tensor.to(Device::cpu()));
  return host;
}

}  // namespace

TEST_CASE("sgd_step: plain, with momentum and with Nesterov's, for every size and alignment") {
  const Tensor rate = Tensor::scalar(0.125);
  struct Variant {
    double momentum, decay;
    bool nesterov;
  };
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : sizes)
      for (const int64_t before : {0, 1})
        for (const auto& [momentum, decay, nesterov] :
             {Variant{0, 0.25, false}, Variant{0.9, 0, false}, Variant{0.9, 0.25, true}}) {
          CAPTURE(size);
          CAPTURE(before);
          CAPTURE(momentum);
          const Tensor x = normal_sample({size}, dtype, 1), g = normal_sample({size}, dtype, 2);
          const Tensor v = momentum > 0 ? normal_sample({size}, dtype, 3) : Tensor();
          const auto got = in_every_order([&] {
            const Tensor x_there = on_cuda(x, before), v_there = v ? on_cuda(v, before) : v;
            sgd_step(x_there, on_cuda(g, before), v_there, on_cuda(rate), {momentum, nesterov, decay});
            return std::vector{x_there, v_there};
          });
          const Doubles x0 = doubles(x), g0 = doubles(g), x1 = doubles(got[0]);
          const Doubles v0 = v ? doubles(v) : Doubles(x0.size()), v1 = v ? doubles(got[1]) : Doubles(x0.size());
          // Each of at most eight roundings is of a number that is no larger than the sum of these magnitudes.
          const double roundings = 8 * epsilon_of(dtype);
          for (size_t i = 0; i < x0.size(); ++i) {
            const double d = g0[i] + decay * x0[i], velocity = momentum * v0[i] + d;
            const double size_of_d = std::abs(g0[i]) + decay * std::abs(x0[i]) + momentum * std::abs(v0[i]);
            const double step = v ? (nesterov ? d + momentum * velocity : velocity) : d;
            CHECK(std::abs(x1[i] - (x0[i] - 0.125 * step)) <= roundings * (std::abs(x0[i]) + 0.25 * size_of_d));
            if (v) CHECK(std::abs(v1[i] - velocity) <= roundings * size_of_d);
          }
        }
}

TEST_CASE("sgd_step: more elements than a grid has threads") {
  if (looks_for_races) return;
  const Tensor rate = Tensor::scalar(0.5, DType::f32, Device::cuda());
  constexpr int64_t threads = 4096 * 256;
  for (const auto [size, before] :
       {std::array<int64_t, 2>{4 * threads + 5, 0}, std::array<int64_t, 2>{threads + 3, 1}}) {
    const Tensor x = on_cuda(Tensor::ones({size}), before);
    sgd_step(x, on_cuda(Tensor::full({size}, 4), before), {}, rate);
    const std::vector<float> values = x.to_vector<float>();
    CHECK(std::ranges::count(values, -1.0f) == size);
  }
}

TEST_CASE("adam_step: weight decay of either kind, early and late, for every size and alignment") {
  const Tensor rate = Tensor::scalar(0.125);
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : sizes)
      for (const int64_t before : {0, 1})
        for (const int64_t steps : {1, 1000})
          for (const bool decoupled : {false, true}) {
            CAPTURE(size);
            CAPTURE(before);
            CAPTURE(steps);
            const AdamOptions o{.weight_decay = 0.25, .decoupled = decoupled};
            const Tensor x = normal_sample({size}, dtype, 1), g = normal_sample({size}, dtype, 2);
            const Tensor m = normal_sample({size}, dtype, 3), v = positive_sample({size}, dtype, 4);
            const Tensor count = Tensor::from<int64_t>({steps}, {});
            const auto got = in_every_order([&] {
              const std::array there = {on_cuda(x, before), on_cuda(m, before), on_cuda(v, before)};
              adam_step(there[0], on_cuda(g, before), there[1], there[2], on_cuda(rate), on_cuda(count), o);
              return there;
            });
            const Doubles x0 = doubles(x), g0 = doubles(g), m0 = doubles(m), v0 = doubles(v);
            const Doubles x1 = doubles(got[0]), m1 = doubles(got[1]), v1 = doubles(got[2]);
            const double roundings = 16 * epsilon_of(dtype), t = static_cast<double>(steps);
            const double correction1 = 1 - std::pow(o.beta1, t), correction2 = 1 - std::pow(o.beta2, t);
            // A GPU's power is good to two units in the last place of f64: much of what is left of 1 at first.
            const double of_powers = 2 * 0x1p-52 * (1 / correction1 + 1 / correction2);
            for (size_t i = 0; i < x0.size(); ++i) {
              const double gradient = g0[i] + (decoupled ? 0 : 0.25 * x0[i]);
              const double size_of_m = std::abs(m0[i]) + std::abs(g0[i]) + std::abs(x0[i]);
              const double moment = o.beta1 * m0[i] + (1 - o.beta1) * gradient;
              const double square = o.beta2 * v0[i] + (1 - o.beta2) * gradient * gradient;
              const double root = std::sqrt(square / correction2) + o.epsilon;
              const double kept = decoupled ? x0[i] * (1 - 0.125 * 0.25) : x0[i];
              CHECK(std::abs(m1[i] - moment) <= roundings * size_of_m);
              CHECK(std::abs(v1[i] - square) <= roundings * (v0[i] + size_of_m * size_of_m));
              const double step = 0.125 * moment / correction1 / root;
              CHECK(std::abs(x1[i] - (kept - step)) <=
                    roundings * (std::abs(x0[i]) + 0.125 * size_of_m / correction1 / root * (1 + size_of_m)) +
                        of_powers * std::abs(step));
            }
          }
}

TEST_CASE("means of gradients that stay 0 end at 0, as on the CPU") {
  const float least = std::numeric_limits<float>::min();
  const Tensor means = Tensor::from<float>({least, -least, 4 * least, -4 * least, 0}, {5});
  const std::vector<float> halved = {0, 0, 2 * least, -2 * least, 0};
  const Tensor rate = on_cuda(Tensor::scalar(0.5)), none = on_cuda(Tensor::zeros({5})), x = on_cuda(none);
  const Tensor velocity = on_cuda(means), m = on_cuda(means);
  sgd_step(x, none, velocity, rate, {.momentum = 0.5});
  CHECK(velocity.to_vector<float>() == halved);
  adam_step(x, none, m, on_cuda(Tensor::ones({5})), rate, on_cuda(Tensor::full({}, 1, DType::i64)), {.beta1 = 0.5});
  CHECK(m.to_vector<float>() == halved);
}

TEST_CASE("schedule_rate follows every schedule as on the CPU") {
  for (const Decay decay : {Decay::constant, Decay::step, Decay::linear, Decay::cosine})
    for (int64_t count = 0; count < 20; ++count) {
      const ScheduleOptions options{.decay = decay, .warmup = 4, .steps = 7, .factor = 0.5, .last = 0.125};
      Tensor here = Tensor::scalar(0), base = Tensor::scalar(0.3), n = Tensor::from<int64_t>({count}, {});
      const Tensor there = on_cuda(here);
      schedule_rate(here, base, n, options);
      schedule_rate(there, on_cuda(base), on_cuda(n), options);
      CHECK(there.item() == doctest::Approx(here.item()).epsilon(2e-7));
    }
}

TEST_CASE("accumulate_squares adds to what is there, in the same order every time") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : {0, 1, 31, 33, 255, 257, 4096, 4097, 70001, 4194304 + 4097}) {
      if (looks_for_races && size > 5000) continue;
      CAPTURE(size);
      const Tensor x = normal_sample({size}, dtype, 1);
      double expected = 3;
      for (const double value : doubles(x)) expected += value * value;
      const auto got = in_every_order([&] {
        const Tensor total = Tensor::scalar(3, DType::f64, Device::cuda());
        accumulate_squares(total, on_cuda(x, 1));
        return total;
      });
      CHECK(got[0].item() == doctest::Approx(expected).epsilon(1e-12));
    }
}

TEST_CASE("clip_to_norm leaves small gradients alone and scales large ones as on the CPU") {
  constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : {0, 1, 33, 255, 257, 5000})
      for (const double squares : {0.0, 3.9, 5.0, 1e300, inf, nan}) {
        CAPTURE(size);
        CAPTURE(squares);
        const Tensor x = normal_sample({size}, dtype, 1), norm = Tensor::scalar(squares, DType::f64);
        const Tensor expected = x.clone();
        clip_to_norm(expected, norm, 2);
        const auto got = in_every_order([&] {
          const Tensor there = on_cuda(x, 1);
          clip_to_norm(there, on_cuda(norm), 2);
          return there;
        });
        const Doubles a = doubles(got[0]), b = doubles(expected);
        for (size_t i = 0; i < a.size(); ++i) CHECK((a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))));
      }
}

TEST_CASE("clip_to_norm: more elements than a grid has threads") {
  if (looks_for_races) return;
  const int64_t size = 4096 * 256 + 3;
  const Tensor x = on_cuda(Tensor::ones({size}));
  clip_to_norm(x, Tensor::scalar(16, DType::f64, Device::cuda()), 2);
  const std::vector<float> values = x.to_vector<float>();
  CHECK(std::ranges::count(values, values[0]) == size);
  CHECK(values[0] == doctest::Approx(0.5));
}

TEST_CASE("no op updates anything while a bad label is on record") {
  using Kind = cuda::ErrorRecord::Kind;
  int checked = 0;
  for (const Op* op : all_ops()) {
    // The engine's own, and one whose result is what it writes.
    if (!op->updates || !op->forward.cuda || op == &accumulate_op || op == &softmax_cross_entropy_in_place_op) continue;
    CAPTURE(op->name);
    bool moves = false;
    for (const Sample& sample : op->samples(DType::f32)) {
      const std::vector<Tensor> bad = updated(*op, sample, Kind::label), good = updated(*op, sample, Kind::none);
      for (size_t i = 0, at = 0; i < sample.inputs.size(); ++i) {
        if (!sample.inputs[i] || !(op->updates >> i & 1)) continue;
        CHECK(same_bits(bad[at], sample.inputs[i].to(Device::cpu())));
        moves |= !same_bits(good[at++], sample.inputs[i]);
      }
    }
    CHECK(moves);
    ++checked;
  }
  CHECK(checked >= 10);
}
