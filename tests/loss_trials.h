// Random calls of softmax_cross_entropy: all shapes, types and options mixed, with ignored, repeated and boundary
// labels forced, and a count of what was made.
//
//   Coverage seen;
//   Chance chance(seed);
//   const Trial trial = random_trial(chance, seen);
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <tuple>

#include <xent/ops/ops.h>

#include "chance.h"

using xent::LossInputs;
using xent::Reduction;
using xent::SoftmaxCrossEntropyOptions;
using Kind = Reduction::Kind;
using Denominator = Reduction::Denominator;
using WhenZero = Reduction::WhenZero;
using Parity = SoftmaxCrossEntropyOptions::Parity;
using Input = SoftmaxCrossEntropyOptions::Input;

// How often the generator made what must not be missing.
using Coverage = std::map<std::string, int>;

// What many trials must have come by, each at least now and then.
inline constexpr const char* what_trials_have[] = {"ignored rows",
                                                   "kept rows",
                                                   "repeated labels",
                                                   "class 0",
                                                   "last class",
                                                   "a class ignored",
                                                   "all rows ignored",
                                                   "out of range",
                                                   "ignore tensor",
                                                   "one-hot rows",
                                                   "distributions",
                                                   "rows of zeros",
                                                   "smoothing",
                                                   "class weights",
                                                   "element weights",
                                                   "normalizer",
                                                   "addend",
                                                   "log-probabilities in",
                                                   "log-probabilities out",
                                                   "masked classes",
                                                   "no rows",
                                                   "one class",
                                                   "classes not last",
                                                   "logits f32",
                                                   "logits f64",
                                                   "logits f16",
                                                   "logits bf16",
                                                   "target u8",
                                                   "target i32",
                                                   "target i64",
                                                   "target f32",
                                                   "target f64",
                                                   "target f16",
                                                   "target bf16",
                                                   "reduction 0",
                                                   "reduction 1",
                                                   "reduction 2",
                                                   "reduction 3",
                                                   "denominator 0",
                                                   "denominator 1",
                                                   "denominator 2",
                                                   "denominator 3",
                                                   "denominator 4",
                                                   "denominator 5",
                                                   "when zero 0",
                                                   "when zero 1",
                                                   "when zero 2",
                                                   "when zero 3",
                                                   "when zero 4"};

struct Trial {
  Tensor logits, target;
  SoftmaxCrossEntropyOptions options;
  LossInputs inputs;
  bool dense = false, masked = false;  // masked: some classes are -inf
};

inline DType any_float(Chance& c) { return c.any<DType>({DType::f32, DType::f64, DType::f16, DType::bf16}); }

inline Tensor tensor_of(const std::vector<double>& values, const Shape& shape, DType dtype) {
  return xent::cast(Tensor::from(values, shape), dtype);
}

inline Shape without_axis(const Shape& shape, int axis) {
  Extents extents;
  for (int a = 0; a < shape.rank(); ++a)
    if (a != axis) extents.push_back(shape[a]);
  return shape_of(extents);
}

inline Shape random_shape(Chance& c, int& axis) {
  Extents extents(c.below(4) + 1);
  for (int64_t& extent : extents) extent = c.one_in(40) ? 0 : c.from(1, 5);
  axis = static_cast<int>(c.below(extents.size()));
  const bool many = c.one_in(100);
  extents[static_cast<size_t>(axis)] =
      many ? c.any<int64_t>({1000, 1023, 1025, 2049}) : c.any<int64_t>({1, 2, 3, 5, 10, 31, 32, 33, 65});
  return shape_of(extents);
}

inline Tensor random_weights(Chance& c, const Shape& shape, DType logits, bool whole) {
  std::vector<double> values(static_cast<size_t>(shape.elements()));
  const bool zeros = c.one_in(2), signs = c.one_in(6), nothing = c.one_in(12);
  for (double& value : values)
    value = nothing || (zeros && c.one_in(3)) ? 0
                                              : (whole ? 0.25 * static_cast<double>(c.from(1, 8)) : 0.1 + c.uniform()) *
                                                    (signs && c.one_in(2) ? -1 : 1);
  return tensor_of(values, shape, c.one_in(2) ? logits : any_float(c));
}

// The label to ignore: one that the labels' type can hold, a class or none.
inline int64_t random_ignore(Chance& c, DType labels, int64_t classes) {
  if (labels == DType::u8) return c.any<int64_t>({255, 0, std::min<int64_t>(classes - 1, 255)});
  if (labels == DType::i32) return c.any<int64_t>({-100, -1, 0, classes - 1, classes, INT32_MIN});
  return c.any<int64_t>({-100, -1, 0, classes - 1, 255, INT64_MIN, INT64_MAX});
}

// Labels of which the first are the last class, class 0 and class 0 once more; then random ones, and where there is
// a label to ignore, some of those: at least one, at times all.
inline void make_labels(Chance& c, Trial& t, const Shape& rows, int64_t classes, Coverage& seen) {
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
  t.target = xent::cast(Tensor::from(labels, rows), dtype);
}

// Fills the rows that are not to be read with NaN.
inline void spoil_ignored_rows(Trial& t, int axis) {
  std::vector<double> x = xent::cast(t.logits, DType::f64).to_vector<double>();
  const std::vector<int64_t> labels = xent::cast(t.target, DType::i64).to_vector<int64_t>();
  const std::optional<int64_t> ignore = t.inputs.ignore ? t.inputs.ignore.item<int64_t>() : t.options.target.ignore;
  const auto inner = static_cast<size_t>(t.logits.shape().product(axis + 1, t.logits.rank()));
  const auto classes = static_cast<size_t>(t.logits.shape()[axis]);
  for (size_t i = 0; i < x.size(); ++i)
    if (labels[i / (classes * inner) * inner + i % inner] == ignore) x[i] = NAN;
  t.logits = tensor_of(x, t.logits.shape(), t.logits.dtype());
}

// Distributions of all kinds: one-hot, normalised, not normalised, and rows of zeros.
inline void make_distribution(Chance& c, Trial& t, const Shape& shape, int axis, Coverage& seen) {
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
  t.target = tensor_of(values, shape, c.one_in(2) ? t.logits.dtype() : any_float(c));
}

inline Reduction random_reduction(Chance& c, const Trial& t, int axis) {
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

inline Trial random_trial(Chance& c, Coverage& seen) {
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
  o.parity.divide_rows = o.reduction.kind == Kind::mean && c.one_in(8);
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
  ++seen["logits " + std::string(xent::name(t.logits.dtype()))];
  ++seen["target " + std::string(xent::name(t.target.dtype()))];
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

// What a failing trial was, to repeat it without the generator.
inline std::string described(const Trial& t) {
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
