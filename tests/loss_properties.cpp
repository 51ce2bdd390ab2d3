// Ten thousand random calls of softmax_cross_entropy, all options mixed, against the reference: loss,
// log-probabilities, denominator and every gradient, in every type, within 3 eps of the arithmetic and one rounding on
// the store.
#include <map>
#include <sstream>
#include <tuple>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "chance.h"
#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;
using Denominator = Reduction::Denominator;
using WhenZero = Reduction::WhenZero;
using Parity = SoftmaxCrossEntropyOptions::Parity;
using Input = SoftmaxCrossEntropyOptions::Input;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t trials = 1'000;
#else
constexpr uint64_t trials = 10'000;
#endif

// How often the generator made what must not be missing.
using Coverage = std::map<std::string, int>;

struct Trial {
  Tensor logits, target;
  SoftmaxCrossEntropyOptions options;
  LossInputs inputs;
  bool dense = false, masked = false;  // masked: some classes are -inf
};

DType any_float(Chance& c) { return c.any<DType>({DType::f32, DType::f64, DType::f16, DType::bf16}); }

Tensor tensor_of(const std::vector<double>& values, const Shape& shape, DType dtype) {
  return cast(Tensor::from(values, shape), dtype);
}

Shape without_axis(const Shape& shape, int axis) {
  Extents extents;
  for (int a = 0; a < shape.rank(); ++a)
    if (a != axis) extents.push_back(shape[a]);
  return shape_of(extents);
}

Shape random_shape(Chance& c, int& axis) {
  Extents extents(c.below(4) + 1);
  for (int64_t& extent : extents) extent = c.one_in(40) ? 0 : c.from(1, 5);
  axis = static_cast<int>(c.below(extents.size()));
  const bool many = c.one_in(100);
  extents[static_cast<size_t>(axis)] =
      many ? c.any<int64_t>({1000, 1023, 1025, 2049}) : c.any<int64_t>({1, 2, 3, 5, 10, 31, 32, 33, 65});
  return shape_of(extents);
}

Tensor random_weights(Chance& c, const Shape& shape, DType logits, bool whole) {
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  const bool zeros = c.one_in(2), signs = c.one_in(6), nothing = c.one_in(12);
  for (double& value : values)
    value = nothing || (zeros && c.one_in(3)) ? 0
                                              : (whole ? 0.25 * static_cast<double>(c.from(1, 8)) : 0.1 + c.uniform()) *
                                                    (signs && c.one_in(2) ? -1 : 1);
  return tensor_of(values, shape, c.one_in(2) || logits == DType::f64 ? logits : DType::f32);
}

// The label to ignore: one that the labels' type can hold, a class or none.
int64_t random_ignore(Chance& c, DType labels, int64_t classes) {
  if (labels == DType::u8) return c.any<int64_t>({255, 0, std::min<int64_t>(classes - 1, 255)});
  if (labels == DType::i32) return c.any<int64_t>({-100, -1, 0, classes - 1, classes, INT32_MIN});
  return c.any<int64_t>({-100, -1, 0, classes - 1, 255, INT64_MIN, INT64_MAX});
}

// Labels of which the first are the last class, class 0 and class 0 once more; then random ones, and where there is
// a label to ignore, some of those: at least one, at times all.
void make_labels(Chance& c, Trial& t, const Shape& rows, int64_t classes, Coverage& seen) {
  const DType dtype = c.any<DType>({DType::u8, DType::i32, DType::i64});
  const int64_t top = dtype == DType::u8 ? std::min<int64_t>(classes - 1, 255) : classes - 1;
  std::vector<int64_t> labels(static_cast<size_t>(rows.elements()));
  for (size_t r = 0; r < labels.size(); ++r) labels[r] = r == 0 ? top : r < 3 ? 0 : c.from(0, top);
  if (c.one_in(6)) {
    t.options.parity.out_of_range =
        c.any<Parity::OutOfRange>({Parity::OutOfRange::clip, Parity::OutOfRange::no_target});
    for (int64_t& label : labels)
      if (c.one_in(4))
        label = dtype == DType::u8 ? 255 : c.any<int64_t>({-1, classes, classes + 7, INT32_MAX, INT32_MIN});
    ++seen["out of range"];
  }
  if (c.one_in(2)) {
    const int64_t ignore = random_ignore(c, dtype, classes);
    const bool all = c.one_in(6);
    for (size_t r = 0; r < labels.size(); ++r)
      if (all || r + 1 == labels.size() || c.one_in(5)) labels[r] = ignore;
    if (c.one_in(4)) {
      t.inputs.ignore = Tensor::full(c.one_in(2) ? Shape{} : Shape{1}, 0, DType::i64);
      t.inputs.ignore.mutable_data<int64_t>()[0] = ignore;
      if (c.one_in(2)) t.options.target.ignore = 1;
    } else {
      t.options.target.ignore = ignore;
    }
    ++seen[all ? "all rows ignored" : "ignore"];
  }
  std::optional<int64_t> ignore = t.options.target.ignore;
  if (t.inputs.ignore) ignore = t.inputs.ignore.item<int64_t>();
  std::map<int64_t, int> times;
  for (const int64_t label : labels) ++times[label];
  for (const auto& [label, count] : times) {
    seen[label == ignore ? "ignored rows" : "kept rows"] += count;
    if (count > 1 && label != ignore) ++seen["repeated labels"];
    if (label == 0 && label != ignore) ++seen["class 0"];
    if (label == classes - 1 && label != ignore) ++seen["last class"];
    if (label == ignore && label >= 0 && label < classes) ++seen["a class ignored"];
  }
  t.target = cast(Tensor::from(labels, rows), dtype);
}

// Fills the rows that are not to be read with NaN.
void spoil_ignored_rows(Trial& t, int axis) {
  std::vector<double> x = cast(t.logits, DType::f64).to_vector<double>();
  const std::vector<int64_t> labels = cast(t.target, DType::i64).to_vector<int64_t>();
  const std::optional<int64_t> ignore = t.inputs.ignore ? t.inputs.ignore.item<int64_t>() : t.options.target.ignore;
  const auto inner = static_cast<size_t>(t.logits.shape().product(axis + 1, t.logits.rank()));
  const auto classes = static_cast<size_t>(t.logits.shape()[axis]);
  for (size_t i = 0; i < x.size(); ++i)
    if (labels[i / (classes * inner) * inner + i % inner] == ignore) x[i] = NAN;
  t.logits = tensor_of(x, t.logits.shape(), t.logits.dtype());
}

// Distributions of all kinds: one-hot, normalised, not normalised, and rows of zeros.
void make_distribution(Chance& c, Trial& t, const Shape& shape, int axis, Coverage& seen) {
  const int64_t classes = shape[axis], inner = shape.product(axis + 1, shape.rank()), rows = shape.elements() / classes;
  const bool normalised = c.one_in(2);
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = [&](int64_t k) { return static_cast<size_t>((r / inner * classes + k) * inner + r % inner); };
    const int64_t label = c.from(0, classes - 1);
    const bool one_hot = c.one_in(4), nothing = c.one_in(10);
    double total = 0;
    for (int64_t k = 0; k < classes; ++k)
      total += values[at(k)] = nothing ? 0 : one_hot ? k == label : c.one_in(4) ? 0 : c.uniform();
    for (int64_t k = 0; k < classes && normalised && total > 0; ++k) values[at(k)] /= total;
    ++seen[nothing ? "rows of zeros" : one_hot ? "one-hot rows" : "distributions"];
  }
  t.target = tensor_of(values, shape, c.one_in(2) || t.logits.dtype() == DType::f64 ? t.logits.dtype() : DType::f32);
}

Reduction random_reduction(Chance& c, const Trial& t, int axis) {
  const auto denominator = static_cast<Denominator>(c.below(6));
  Reduction reduction{
      .kind = static_cast<Kind>(c.below(4)),
      .denominator = t.dense && denominator == Denominator::label_weights ? Denominator::weight_sum : denominator,
      .when_zero = static_cast<WhenZero>(c.below(5))};
  if (t.logits.rank() < 2 && reduction.kind == Kind::sample_mean) reduction.kind = Kind::mean;
  while (reduction.kind == Kind::sample_mean && (reduction.batch_axis == axis || c.one_in(2)))
    reduction.batch_axis = static_cast<int>(c.below(static_cast<uint64_t>(t.logits.rank())));
  return reduction;
}

Trial random_trial(Chance& c, Coverage& seen) {
  Trial t;
  int axis = 0;
  const Shape shape = random_shape(c, axis);
  const Shape rows = without_axis(shape, axis);
  const int64_t classes = shape[axis];
  SoftmaxCrossEntropyOptions& o = t.options;
  o.axis = c.one_in(2) ? axis : axis - shape.rank();
  o.input = c.one_in(8) ? Input::log_probs : Input::logits;
  t.dense = c.one_in(3);
  t.masked = c.one_in(5) && o.input == Input::logits;

  const double spread = c.any<double>({1, 1, 3, 20});
  std::vector<double> x(static_cast<size_t>(shape.elements()));
  for (double& value : x) {
    value = spread * c.normal();
    if (o.input == Input::log_probs) value = -std::abs(value);
    if (t.masked && c.one_in(8)) value = -HUGE_VAL;
  }
  t.logits = tensor_of(x, shape, any_float(c));

  if (t.dense) make_distribution(c, t, shape, axis, seen);
  else make_labels(c, t, rows, classes, seen);
  if (c.one_in(3)) {
    o.target.smoothing = c.any<double>({0.1, 0.25, 1, static_cast<double>(c.uniform())});
    o.parity.smoothing_classes = c.one_in(6) ? classes + 2 : 0;
    if (c.one_in(8)) {
      o.parity.any_smoothing = true;
      o.target.smoothing = c.any<double>({-0.125, 1.5});
    }
    ++seen["smoothing"];
  }
  o.reduction = random_reduction(c, t, axis);
  o.scale = c.one_in(4) ? c.any<double>({0.5, -2, 0}) : 1;
  if (c.one_in(2)) o.output.dtype = any_float(c);
  o.output.log_probs = c.one_in(4) && o.input == Input::logits;
  o.parity.multiply_zeros = c.one_in(4);
  o.parity.divide_rows = c.one_in(8);
  o.parity.zero_grad_when_zero = c.one_in(8);

  LossInputs& in = t.inputs;
  if (t.dense && c.one_in(4)) o.parity.dense_grad = Parity::DenseGrad::prob_minus_target;
  else if (c.one_in(2)) in.class_weights = random_weights(c, {classes}, t.logits.dtype(), c.one_in(2));
  if (c.one_in(3)) in.element_weights = random_weights(c, rows, t.logits.dtype(), c.one_in(2));
  if (o.reduction.kind == Kind::mean && c.one_in(6))
    in.normalizer = Tensor::scalar(c.one_in(8) ? 0 : 3.5, c.any<DType>({DType::f32, DType::f64}));
  if (c.one_in(6)) in.grad_addend = tensor_of(x, shape, any_float(c));
  if (in.grad_addend && t.masked) in.grad_addend.fill(0.5);
  if (!t.dense && !o.output.log_probs && c.one_in(2)) spoil_ignored_rows(t, axis);
  ++seen["logits " + std::string(name(t.logits.dtype()))];
  ++seen["target " + std::string(name(t.target.dtype()))];
  ++seen["reduction " + std::to_string(static_cast<int>(o.reduction.kind))];
  if (o.reduction.kind == Kind::mean) {
    ++seen["denominator " + std::to_string(static_cast<int>(o.reduction.denominator))];
    ++seen["when zero " + std::to_string(static_cast<int>(o.reduction.when_zero))];
  }
  for (const auto& [what, given] :
       std::initializer_list<std::pair<const char*, bool>>{{"class weights", static_cast<bool>(in.class_weights)},
                                                           {"element weights", static_cast<bool>(in.element_weights)},
                                                           {"normalizer", static_cast<bool>(in.normalizer)},
                                                           {"ignore tensor", static_cast<bool>(in.ignore)},
                                                           {"addend", static_cast<bool>(in.grad_addend)},
                                                           {"log-probabilities in", o.input == Input::log_probs},
                                                           {"log-probabilities out", o.output.log_probs},
                                                           {"masked classes", t.masked},
                                                           {"no rows", rows.elements() == 0},
                                                           {"one class", classes == 1},
                                                           {"classes not last", axis + 1 < shape.rank()}})
    seen[what] += given;
  return t;
}

// Quarters, exact in every type, of both signs and 0.
std::vector<double> random_upstream(Chance& c, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = 0.25 * static_cast<double>(c.from(-8, 8));
  return values;
}

std::string named(const char* what, const std::string& fault) { return fault.empty() ? "" : what + (" " + fault); }

// The losses by the reference of upstream 1, without gradients: is a mean over nothing an error?
bool must_throw(const Trial& t, const reference::Loss& want) {
  return t.options.reduction.kind == Kind::mean && t.options.reduction.when_zero == WhenZero::error_if_not_positive &&
         want.denominator.value <= 0;
}

std::string check_gradient(const char* what, const Tensor& got, const Tensor& of, const reference::Numbers& want,
                           double eps) {
  if (got.shape() != of.shape() || got.dtype() != of.dtype()) return std::string(what) + " has another shape or dtype";
  return named(what, reference::difference(got, want, eps));
}

std::string check_values(const Trial& t, const Tensor& loss, const Tensor& log_probs, const reference::Loss& want) {
  const DType usual = t.logits.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const DType dtype = t.options.output.dtype.value_or(usual);
  const double eps = reference::eps_of(t.logits.dtype());
  if (loss.dtype() != dtype || (log_probs && log_probs.dtype() != dtype)) return "another dtype";
  std::string fault = named("loss", reference::difference(loss, want.loss, eps));
  if (fault.empty() && log_probs) fault = named("log_probs", reference::difference(log_probs, want.log_probs, eps));
  return fault;
}

// Through the tape, with an upstream of its own at every output.
std::string check_tape(const Trial& t, Chance& c, Coverage& seen) {
  const auto& [logits, target, options, inputs, dense, masked] = t;
  const Tensor& e = inputs.element_weights;
  Tape tape;
  tape.watch(logits);
  const bool want_target = dense && c.one_in(2), want_weights = e && c.one_in(2);
  if (want_target) tape.watch(target);
  if (want_weights) tape.watch(e);
  Tensor loss, log_probs;
  if (options.output.log_probs) {
    const SoftmaxCrossEntropyOutputs outputs = softmax_cross_entropy_outputs(logits, target, options, inputs);
    loss = outputs.loss;
    log_probs = outputs.log_probs;
  } else {
    loss = softmax_cross_entropy(logits, target, options, inputs);
  }
  const bool ones = c.one_in(2);
  std::vector<double> upstream =
      ones ? std::vector<double>(static_cast<size_t>(loss.elements()), 1) : random_upstream(c, loss.elements());
  std::vector<double> upstream_log_probs;
  Gradients gradients;
  if (ones && c.one_in(2)) {
    gradients = tape.backward(loss, {.upstream = Tensor::ones(loss.shape(), loss.dtype())});
    ++seen["backward from the loss"];
  } else {
    Tensor root = sum(cast(loss, DType::f64) * Tensor::from(upstream, loss.shape()));
    if (log_probs && c.one_in(2)) {
      upstream_log_probs = random_upstream(c, log_probs.elements());
      root = root + sum(cast(log_probs, DType::f64) * Tensor::from(upstream_log_probs, log_probs.shape()));
      ++seen["gradient from the log-probabilities"];
    }
    gradients = tape.backward(root);
  }
  const reference::Loss want = reference::loss(logits, target, options, inputs, upstream, upstream_log_probs);
  const double eps = reference::eps_of(logits.dtype());
  std::string fault = check_values(t, loss, log_probs, want);
  if (!fault.empty() || want.divides_by_zero) return fault;
  fault = check_gradient("d logits", gradients[logits], logits, want.grad_logits, eps);
  if (fault.empty() && want_target && !masked) {
    fault = check_gradient("d target", gradients[target], target, want.grad_target, eps);
    ++seen["gradient of a distribution"];
  }
  if (fault.empty() && want_weights && !masked) {
    fault = check_gradient("d element weights", gradients[e], e, want.grad_element_weights, eps);
    ++seen["gradient of element weights"];
  }
  return fault;
}

// Without a tape: forward and then backward from the statistics, or both at once.
std::string check_functions(const Trial& t, Chance& c, Coverage& seen) {
  const auto& [logits, target, options, inputs, dense, masked] = t;
  const double eps = reference::eps_of(logits.dtype());
  const auto outputs = softmax_cross_entropy_outputs(logits, target, options, inputs);
  const std::vector<double> upstream = random_upstream(c, outputs.loss.elements());
  reference::Loss want = reference::loss(logits, target, options, inputs, upstream);
  std::string fault = check_values(t, outputs.loss, outputs.log_probs, want);
  const Tensor denominator = softmax_cross_entropy_denominator(logits.shape(), target, options, inputs);
  if (fault.empty()) fault = named("denominator", reference::difference(outputs.denominator, {want.denominator}, eps));
  if (fault.empty() && options.reduction.kind == Kind::mean && !inputs.normalizer)
    fault = named("denominator alone", reference::difference(denominator, {want.denominator}, eps));
  if (!fault.empty() || want.divides_by_zero) return fault;

  SoftmaxCrossEntropyOptions backward = options;
  backward.output.dtype = c.one_in(2) ? std::optional(any_float(c)) : std::nullopt;
  const Tensor arriving = tensor_of(upstream, outputs.loss.shape(), any_float(c));
  const Tensor grad = softmax_cross_entropy_grad(arriving, logits, target, outputs.statistics, backward, inputs);
  if (grad.dtype() != backward.output.dtype.value_or(logits.dtype())) return "grad has another dtype";
  fault = named("grad", reference::difference(grad, want.grad_logits, eps));
  if (!fault.empty()) return fault;

  Tensor given = c.one_in(2) ? logits.clone() : logits;
  const std::string before = bytes_of(logits);
  want = reference::loss(logits, target, options, inputs);
  const LossAndGrad both =
      softmax_cross_entropy_with_grad(c.one_in(2) ? std::move(given) : Tensor(given), target, options, inputs);
  ++seen["with_grad"];
  fault = named("with_grad: loss", reference::difference(both.loss, want.loss, eps));
  if (fault.empty()) fault = named("with_grad: grad", reference::difference(both.grad, want.grad_logits, eps));
  if (fault.empty() && bytes_of(logits) != before) return "with_grad wrote the caller's logits";
  return fault;
}

// What a failing trial was, to repeat it without the generator.
std::string described(const Trial& t) {
  std::ostringstream out;
  const auto& [o, in] = std::tie(t.options, t.inputs);
  out << t.logits.shape() << ' ' << t.logits.dtype() << ", target " << t.target.dtype() << ", axis " << o.axis;
  if (o.input == Input::log_probs) out << ", log-probabilities";
  if (o.target.ignore) out << ", ignore " << *o.target.ignore;
  out << ", smoothing " << o.target.smoothing << '/' << o.parity.smoothing_classes << ", reduction "
      << static_cast<int>(o.reduction.kind) << static_cast<int>(o.reduction.denominator)
      << static_cast<int>(o.reduction.when_zero) << o.reduction.batch_axis << ", scale " << o.scale << ", parity "
      << static_cast<int>(o.parity.out_of_range) << static_cast<int>(o.parity.dense_grad) << o.parity.multiply_zeros
      << o.parity.divide_rows << o.parity.zero_grad_when_zero << ", inputs";
  for (const Tensor* x : {&in.class_weights, &in.element_weights, &in.normalizer, &in.ignore, &in.grad_addend})
    out << (*x ? " yes" : " no");
  return out.str();
}

std::string fault_of(const Trial& t, Chance& c, Coverage& seen) {
  if (must_throw(t, reference::loss(t.logits, t.target, t.options, t.inputs))) {
    ++seen["a mean over nothing is an error"];
    try {
      softmax_cross_entropy(t.logits, t.target, t.options, t.inputs);
    } catch (const ArgumentError&) {
      return "";
    }
    return "divides by a denominator that is not positive";
  }
  try {
    return c.one_in(2) ? check_tape(t, c, seen) : check_functions(t, c, seen);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("random calls agree with the reference, and nothing that matters is missing among them") {
  Coverage seen;
  for (uint64_t seed = 0; seed < trials; ++seed) {
    Chance chance(seed);
    const Trial trial = random_trial(chance, seen);
    const std::string fault = fault_of(trial, chance, seen);
    CAPTURE(seed);
    CHECK_MESSAGE(fault.empty(), fault, "\n  ", described(trial));
  }
  for (const char* what : {"ignored rows", "kept rows"}) CHECK(seen[what] > 0);
}
