#include <xent/core/gradcheck.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include <xent/core/op_trial.h>
#include <xent/core/parallel.h>
#include <xent/core/random.h>
#include <xent/core/require.h>
#include <xent/core/step.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

using Values = std::vector<double>;

Values random_values(int64_t count, HostRandom& random) {
  Values values(static_cast<size_t>(count));
  for (double& value : values) value = random.normal();
  return values;
}

double dot(const Values& a, const Values& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
  return total;
}

// u . f(x + distance v), v in the place of one input.
double evaluate(const DifferentiableFunction& f, std::vector<Tensor> inputs, size_t which, const Values& v,
                double distance, const Values& u) {
  Values x = inputs[which].to_vector<double>();
  for (size_t i = 0; i < x.size(); ++i) x[i] += distance * v[i];
  inputs[which] = Tensor::from(x, inputs[which].shape());
  return dot(f(inputs).to_vector<double>(), u);
}

// The derivative along v by a stencil of four points, whose error is of order h^4.
double difference(const DifferentiableFunction& f, const std::vector<Tensor>& inputs, size_t which, const Values& v,
                  double h, const Values& u) {
  const auto at = [&](double distance) { return evaluate(f, inputs, which, v, distance, u); };
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
}

void note_error(GradientReport& report, double analytic, double numeric, const GradientCheckOptions& options,
                const std::string& where) {
  const double error = std::abs(analytic - numeric) / (1 + std::abs(numeric));
  if (error > report.worst_error || error != error) report.worst_error = error;
  if (error <= options.tolerance || !report.passed) return;  // the first failure is the one that is told; NaN fails
  report.passed = false;
  report.message = fmt::format(
      "{}: backward gives {:.12g}, differences of forward give {:.12g} (relative error {:.2g}, allowed {:.2g}){}",
      where, analytic, numeric, error, options.tolerance,
      analytic != analytic ? "; does backward write every element of grad_in, and write (=) instead of adding (+=)?"
                           : "");
}

GradientReport failure(std::string message) {
  return {.passed = false, .worst_error = 0, .message = std::move(message)};
}

void merge(GradientReport& report, const GradientReport& part) {
  report.worst_error = std::max(report.worst_error, part.worst_error);
  if (report.passed && !part.passed) {
    report.passed = false;
    report.message = part.message;
  }
}

template <class T>
bool same_bits(const Tensor& a, const Tensor& b) {
  const std::vector<T> x = a.to_vector<T>(), y = b.to_vector<T>();
  return x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  switch (size_of(a.dtype())) {
    case 1: return same_bits<uint8_t>(a, b);
    case 2: return a.dtype() == DType::f16 ? same_bits<Float16>(a, b) : same_bits<BFloat16>(a, b);
    case 4: return a.dtype() == DType::f32 ? same_bits<float>(a, b) : same_bits<int32_t>(a, b);
    default: return a.dtype() == DType::f64 ? same_bits<double>(a, b) : same_bits<int64_t>(a, b);
  }
}

// The inputs of a sample, with copies of those that the op updates: every evaluation starts from the same state.
std::vector<Tensor> fresh_inputs(const Op& op, const Sample& sample) {
  std::vector<Tensor> inputs = sample.inputs;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.updates >> i & 1 && inputs[i]) inputs[i] = inputs[i].clone();
  return inputs;
}

// One backward of an op on a sample, from its first output, with the given upstream, for the inputs in the mask.
Gradients gradients_of(const Op& op, const Sample& sample, const Tensor& upstream, int repeats = 1,
                       Mask inputs = everything) {
  Gradients gradients;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    Tape tape;
    for (size_t i = 0; i < sample.inputs.size(); ++i)
      if (wants_gradient(op, sample.inputs[i], i) && inputs >> i & 1) tape.watch(sample.inputs[i]);
    tape.backward(apply(op, fresh_inputs(op, sample), sample.attrs)[0], gradients, {.upstream = upstream});
  }
  return gradients;
}

// A second backward into the same gradients doubles them, exactly.
GradientReport check_accumulation(const Op& op, const Sample& sample, const Tensor& upstream,
                                  const std::string& where) {
  const Gradients once = gradients_of(op, sample, upstream), twice = gradients_of(op, sample, upstream, 2);
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    if (!wants_gradient(op, sample.inputs[i], i)) continue;
    const Values one = once[sample.inputs[i]].to_vector<double>(), two = twice[sample.inputs[i]].to_vector<double>();
    for (size_t k = 0; k < one.size(); ++k)
      if (std::abs(two[k] - 2 * one[k]) > 1e-12 * (1 + std::abs(one[k])))
        return failure(fmt::format("{}, input {}: accumulated twice, element {} is {:.12g} instead of {:.12g}", where,
                                   i, k, two[k], 2 * one[k]));
  }
  return {};
}

// Each gradient is the same when no other one is wanted.
GradientReport check_alone(const Op& op, const Sample& sample, const Tensor& upstream, const std::string& where) {
  const Gradients together = gradients_of(op, sample, upstream);
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    if (!wants_gradient(op, sample.inputs[i], i)) continue;
    const Gradients alone = gradients_of(op, sample, upstream, 1, Mask{1} << i);
    if (!same_bits(alone[sample.inputs[i]], together[sample.inputs[i]]))
      return failure(fmt::format("{}, input {}: the gradient is another one when no other input wants one", where, i));
  }
  return {};
}

// Puts the number of threads, and the mode of replay, back however a check ends.
class SettingsScope {
 public:
  SettingsScope() : threads_(threads()), replay_(replay()) {}
  ~SettingsScope() {
    set_threads(threads_);
    set_replay(replay_);
  }
  SettingsScope(const SettingsScope&) = delete;
  SettingsScope& operator=(const SettingsScope&) = delete;

 private:
  int threads_;
  Replay replay_;
};

GradientReport check_threads(const Op& op, const Sample& sample, const Tensor& upstream, const std::string& where) {
  const SettingsScope scope;
  const auto with = [&](int count) {
    set_threads(count);
    return gradients_of(op, sample, upstream);
  };
  const Gradients one = with(1), three = with(3);
  for (size_t i = 0; i < sample.inputs.size(); ++i)
    if (wants_gradient(op, sample.inputs[i], i) && !same_bits(one[sample.inputs[i]], three[sample.inputs[i]]))
      return failure(
          fmt::format("{}, input {}: the gradient has other bits with three threads than with one", where, i));
  return {};
}

}  // namespace

GradientReport check_gradients(const DifferentiableFunction& f, std::vector<Tensor> inputs,
                               const GradientCheckOptions& options) {
  HostRandom random(options.seed, 2);  // a stream that no sample is from: normalising the upstream itself would give 0
  for (const Tensor& input : inputs)
    require<DTypeError>(!input || !is_floating(input.dtype()) || input.dtype() == DType::f64,
                        "check_gradients: an input is {}; differences need f64", input.dtype());
  Values u;
  Gradients gradients;
  {
    Tape tape;
    for (const Tensor& input : inputs)
      if (input && is_floating(input.dtype())) tape.watch(input);
    const Tensor y = f(inputs);
    require<DTypeError>(y.dtype() == DType::f64, "check_gradients: the result is {}, not f64", y.dtype());
    u = random_values(y.elements(), random);
    gradients = tape.backward(y, {.upstream = Tensor::from(u, y.shape())});
  }
  GradientReport report;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i] || !is_floating(inputs[i].dtype())) continue;
    const Tensor* gradient = gradients.find(inputs[i]);
    const Values g = gradient ? gradient->to_vector<double>() : Values(static_cast<size_t>(inputs[i].elements()), 0);
    for (int direction = 0; direction < options.directions; ++direction) {
      const Values v = random_values(inputs[i].elements(), random);
      note_error(report, dot(g, v), difference(f, inputs, i, v, options.step, u), options,
                 fmt::format("input {} {}", i, inputs[i].shape()));
    }
  }
  return report;
}

GradientReport check_op(const Op& op, const GradientCheckOptions& options) {
  require<ArgumentError>(op.samples != nullptr, "check_op: {} has no samples", op.name);
  require<ArgumentError>(op.backward || op.view, "check_op: {} has no backward to check", op.name);
  const PoisonScope poison;  // a gradient that is not written is NaN, which fails
  GradientReport report;
  const Samples samples = op.samples(DType::f64);
  for (size_t s = 0; s < samples.size() && report.passed; ++s) {
    const Sample& sample = samples[s];
    std::vector<Tensor> variables;  // the differentiable inputs; the others stay as they are
    for (size_t i = 0; i < sample.inputs.size(); ++i)
      if (wants_gradient(op, sample.inputs[i], i)) variables.push_back(sample.inputs[i]);
    const auto f = [&](std::span<const Tensor> values) {
      std::vector<Tensor> inputs = fresh_inputs(op, sample);
      size_t next = 0;
      for (size_t i = 0; i < inputs.size(); ++i)
        if (wants_gradient(op, inputs[i], i)) inputs[i] = values[next++];
      return apply(op, inputs, sample.attrs)[0];
    };
    const std::string where = fmt::format("{}, sample {}", op.name, s);
    GradientReport gradients = check_gradients(f, variables, options);
    if (!gradients) gradients.message = where + ", " + gradients.message;
    merge(report, gradients);

    const Tensor y = f(variables);
    HostRandom random(options.seed, 1);
    const Tensor upstream = Tensor::from(random_values(y.elements(), random), y.shape());
    merge(report, check_accumulation(op, sample, upstream, where));
    merge(report, check_alone(op, sample, upstream, where));
    merge(report, check_threads(op, sample, upstream, where));
  }
  return report;
}

GradientReport check_replay(const Op& op, DType dtype, Device device) {
  require<ArgumentError>(op.samples != nullptr, "check_replay: {} has no samples", op.name);
  const SettingsScope scope;
  set_replay(Replay::on);
  GradientReport report;
  const Samples samples = op.samples(dtype);
  for (size_t s = 0; s < samples.size() && report.passed; ++s) {
    const Sample& sample = samples[s];
    std::vector<Tensor> given;
    for (const Tensor& input : sample.inputs)
      if (input) given.push_back(input.to(device));
    StepRunner step([&](std::span<const Tensor> slots) {
      std::vector<Tensor> inputs = sample.inputs;
      size_t next = 0;
      for (Tensor& input : inputs)
        if (input) input = slots[next++];
      Tensors results;
      Tape tape;
      for (size_t i = 0; i < inputs.size(); ++i)
        if (wants_gradient(op, inputs[i], i)) tape.watch(inputs[i]);
      const Tensors outputs = apply(op, inputs, sample.attrs);
      if (!outputs.empty()) results.push_back(outputs[0]);
      if ((op.backward || op.view) && is_floating(outputs[0].dtype())) {
        const Gradients gradients =
            tape.backward(outputs[0], {.upstream = Tensor::full(outputs[0].shape(), 0.5, outputs[0].dtype(), device)});
        for (size_t i = 0; i < inputs.size(); ++i)
          if (wants_gradient(op, inputs[i], i)) results.push_back(gradients[inputs[i]]);
      }
      for (size_t i = 0; i < inputs.size(); ++i)
        if (op.updates >> i & 1 && inputs[i]) results.push_back(inputs[i]);
      return results;
    });
    Tensors eager;
    for (int call = 0; call < 4 && report.passed; ++call) {  // eager, recorded, replayed, replayed
      Tensors results = step(given);
      for (size_t r = 0; r < results.size(); ++r) {
        if (call == 0) eager.push_back(results[r].clone());
        else if (!same_bits(eager[r], results[r]))
          merge(report, failure(fmt::format("{}, sample {}: result {} of call {} has other bits than the eager one",
                                            op.name, s, r, call + 1)));
      }
    }
  }
  return report;
}

}  // namespace xent
