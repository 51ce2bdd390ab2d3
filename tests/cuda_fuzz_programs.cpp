// Random training steps on the emulated GPU: replayed as a graph they have the bits of the same program run eagerly,
// and the numbers of the CPU, through changes of shape, bad labels and exceptions of the user's function.
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "cuda_orders.h"
#include "random_program.h"
#include "replay_mode.h"

using namespace xent;
using emulator::Order;

namespace {

Tensor host(const Tensor& x) { return x.to(Device::cpu()); }

// A training step that is another program for every seed, with all the state that a step can have.
class Training {
 public:
  Training(uint64_t seed, Device device)
      : seed_(seed),
        generator_(7, device),
        weight_(Tensor::full({1}, 0.5, DType::f32, device)),
        m_(Tensor::zeros({1}, DType::f32, device)),
        v_(Tensor::zeros({1}, DType::f32, device)),
        mean_(Tensor::zeros({1}, DType::f32, device)),
        variance_(Tensor::ones({1}, DType::f32, device)),
        rate_(Tensor::scalar(1e-3, DType::f32, device)),
        base_(Tensor::scalar(1e-2, DType::f32, device)),
        steps_(Tensor::zeros({}, DType::i64, device)),
        metric_(Tensor::zeros({2}, DType::f64, device)),
        correct_(Tensor::zeros({2}, DType::f64, device)) {
    weight_.set_requires_grad();
  }

  std::array<Tensor, 3> operator()(const Tensor& x, const Tensor& labels) {
    Chance c(seed_);
    Tape tape;
    tape.watch(x);
    const int64_t throws_at = c.from(0, 12);
    std::vector<Tensor> values = {x, weight_, uniform(x.shape(), -1, 1, generator_)};
    Tensor total = sum(tanh(values[0]));
    for (const Tensor& value : values) total = total + sum(mul(value, value));
    for (int64_t n = c.from(1, 12), i = 0; i < n; ++i) {
      if (throws && i == throws_at % n) throw std::runtime_error("of the user");
      values.push_back(apply(c, values, x.shape(), labels));
    }
    const Tensor loss = total + sum(values.back());
    const Gradients gradients = tape.backward(loss);
    if (throws && throws_at == 12) throw std::runtime_error("of the user");
    Tensor gradient = gradients[weight_];
    if (c.one_in(3)) {
      Tensor squares = Tensor::zeros({}, DType::f64, x.device());
      accumulate_squares(squares, gradient);
      clip_to_norm(gradient, squares, 0.25);
    }
    advance(steps_);
    if (c.one_in(2)) adam_step(weight_, gradient, m_, v_, rate_, steps_);
    else sgd_step(weight_, gradient, m_, rate_, {.momentum = 0.9});
    if (c.one_in(2)) schedule_rate(rate_, base_, steps_, {Decay::cosine, 2, 9, 0.1, 0.5});
    accumulate_mean(metric_, loss, 1);
    if (c.one_in(2)) accumulate_correct(correct_, x, labels);
    return {loss, gradients[x], gradients[weight_]};
  }

  std::vector<Tensor> state() const {
    return {weight_, m_, v_, mean_, variance_, rate_, steps_, metric_, correct_, generator_.state()};
  }

  bool throws = false;

 private:
  // Applies ops that fuzz_programs leaves out, or any others, to values that broadcast to `wide`, [n, m].
  Tensor apply(Chance& c, const std::vector<Tensor>& values, const Shape& wide, const Tensor& labels) {
    const int64_t n = wide[0], m = wide[1];
    const Shape images{n, m, 1, 1};
    const Tensor a = c.any(values), x = add(a, Tensor::zeros(wide, a.dtype(), a.device()));
    switch (c.below(26)) {
      case 0: return softmax_cross_entropy(x, labels);
      case 1: return reshape(softmax_cross_entropy(x, labels, {.reduction = {.kind = Reduction::Kind::none}}), {n, 1});
      case 2: return dropout(x, 0.5, generator_);
      case 3:
        if (n * m < 2) return a;
        return reshape(batch_norm2d(reshape(x, images), Tensor(), Tensor(), mean_, variance_), wide);
      case 4: return layer_norm(x, {}, {}, {.axes = 1, .epsilon = 0.5});
      case 5: {
        const int64_t begin = c.from(0, 1) * n;
        return slice_rows(concat({x, scale(x, -1)}, 0), begin, begin + n);
      }
      case 6: return permute(permute(x, {1, 0}), {1, 0});
      default: return apply_random(c, values, wide, labels);
    }
  }

  uint64_t seed_;
  Generator generator_;
  Tensor weight_, m_, v_, mean_, variance_, rate_, base_, steps_, metric_, correct_;
};

// The results on the CPU, or what was thrown.
struct Outcome {
  std::array<Tensor, 3> results;
  std::string error;
};
template <class F>
Outcome outcome_of(const F& f) {
  Outcome outcome;
  try {
    outcome.results = f();
    for (Tensor& x : outcome.results) x = host(x);
  } catch (const std::exception& error) {
    outcome.error = error.what();
    try {  // a bad label that kernels have found before
      Tensor::zeros({}, DType::f32, Device::cuda()).item();
    } catch (const LabelError&) {
    }
  }
  return outcome;
}

std::vector<Tensor> copies(const std::vector<Tensor>& state) {
  std::vector<Tensor> all;
  for (const Tensor& x : state) all.push_back(host(x).clone());
  return all;
}

// The largest difference relative to the size of the numbers and at least 1.
double distance(const Tensor& a, const Tensor& b) {
  if (same_bits(a, b)) return 0;
  const std::vector<double> x = cast(a, DType::f64).to_vector<double>(), y = cast(b, DType::f64).to_vector<double>();
  double worst = 0, scale = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(x[i] - y[i]));
    scale = std::max(scale, std::abs(x[i]));
  }
  return worst / scale;
}

}  // namespace

TEST_CASE("a random program on CUDA gives the same bits as a Step, and the numbers of the CPU, also after errors") {
  const uint64_t programs = looks_for_races ? 1 : 20, calls = looks_for_races ? 8 : 24;
  for (const Replay how : {Replay::on, Replay::verify}) {
    const Mode mode(how);
    int errors = 0, thrown = 0;
    for (uint64_t seed = 0; seed < programs; ++seed) {
      CAPTURE(seed);
      Training eager(seed, Device::cuda()), stepped(seed, Device::cuda()), there(seed, Device::cpu());
      Step step([&](const Tensor& x, const Tensor& labels) { return stepped(x, labels); });
      Chance c(seed, 2);
      for (uint64_t call = 0; call < calls; ++call) {
        CAPTURE(call);
        const int64_t n = c.one_in(2) ? 2 : c.from(0, 4), m = c.one_in(2) ? 3 : c.from(1, 3);
        const Tensor x = normals(c, {n, m}, DType::f32), labels = labels_of(c, n, m, c.one_in(6));
        const Tensor x_there = x.to(Device::cuda()), labels_there = labels.to(Device::cuda());
        const emulator::ScheduleScope scope(
            {c.any<emulator::Order>({emulator::Order::forward, emulator::Order::backward, emulator::Order::shuffled}),
             call});
        stepped.throws = c.one_in(5);
        const Outcome got = outcome_of([&] { return step(x_there, labels_there); });
        const std::vector<Tensor> after = copies(stepped.state());
        there.throws = eager.throws = got.error == "of the user";
        const Outcome want = outcome_of([&] { return eager(x_there, labels_there); });
        const Outcome on_cpu = outcome_of([&] { return there(x, labels); });
        CHECK(got.error == want.error);
        const std::vector<Tensor> expected = copies(eager.state());
        for (size_t i = 0; i < expected.size(); ++i) {
          CAPTURE(i);
          CHECK(same_bits(after[i], expected[i]));
        }
        for (size_t i = 0; got.error.empty() && want.error.empty() && i < 3; ++i)
          CHECK(same_bits(got.results[i], want.results[i]));
        if (!eager.throws) {
          CHECK(on_cpu.error == want.error);
          for (size_t i = 0; on_cpu.error.empty() && want.error.empty() && i < 3; ++i)
            CHECK(distance(on_cpu.results[i], want.results[i]) < 1e-4);
        }
        for (size_t i = 0; i < expected.size(); ++i) {
          CAPTURE(i);
          if (on_cpu.error.empty()) CHECK(distance(there.state()[i], expected[i]) < 1e-4);
          Tensor(there.state()[i]).copy_from(expected[i]);
        }
        errors += !got.error.empty() && !eager.throws;
        thrown += eager.throws;
      }
    }
    if (looks_for_races) continue;
    CHECK(errors > 20);
    CHECK(thrown > 20);
  }
}
