// One random call of softmax_cross_entropy or a companion of it, and what such a call is made of.
#pragma once

#include <functional>
#include <vector>

#include <xent/xent.h>

#include "chance.h"

namespace op_trials {

using namespace xent;

struct Trial {
  std::vector<Tensor> inputs;
  std::function<Tensor()> call;  // the result, or what was updated
  std::function<Shape()> shape;  // of the result; asked only if there is one
};

// The shape of x with one axis replaced: by nothing, or by another extent.
inline Shape replaced(const Tensor& x, int64_t axis, const Extents& by) {
  Extents extents(x.shape().begin(), x.shape().end());
  const auto at = extents.erase(extents.begin() + x.shape().resolve(axis));
  extents.insert(at, by.begin(), by.end());
  return shape_of(extents);
}

// What a loss is called with: mostly what fits together, of any kind.
struct LossCall {
  Tensor x, target;
  SoftmaxCrossEntropyOptions options = {};
  LossInputs in = {};
  Shape rows = {};
  bool not_positive = false;  // logits that could be log-probabilities
};

inline LossCall loss_call(Chance& c) {
  const auto rarely = [&] { return c.one_in(40); };
  Extents extents(1 + c.below(4));
  for (int64_t& extent : extents) extent = c.one_in(15) ? 0 : c.from(1, 4);
  const auto axis = static_cast<int64_t>(c.below(extents.size()));
  int64_t& most = extents[static_cast<size_t>(axis)];
  if (c.one_in(2)) most = c.any<int64_t>({1, 2, 10, 33, 65, 130, rarely() ? 1100 : 3});
  const DType dtype = c.any<DType>({DType::f32, DType::f64, DType::f16, DType::bf16});
  LossCall call = {.x = rarely() ? c.tensor() : c.tensor(shape_of(extents), dtype), .target = {}};
  call.not_positive = c.one_in(4) && call.x && is_computable(call.x.dtype());
  if (call.not_positive) {
    call.x = scale(relu(call.x), -1);
    if (c.one_in(2)) call.options.input = SoftmaxCrossEntropyOptions::Input::log_probs;
  }
  c.infinite = c.huge;  // else an infinity times what rounds to 0
  const Tensor& x = call.x;
  SoftmaxCrossEntropyOptions& o = call.options;
  o.axis = rarely() ? c.axis() : c.one_in(2) ? axis : axis - static_cast<int64_t>(extents.size());
  const bool fits = o.axis >= -x.rank() && o.axis < x.rank();
  const int64_t classes = fits ? x.shape()[o.axis] : 3;
  if (fits) call.rows = replaced(x, o.axis, {});
  const bool dense = c.one_in(3);
  call.target = dense ? c.mostly(x.shape(), x.dtype()) : c.labels(call.rows, classes);
  if (c.one_in(2) && (!dense || rarely())) o.target.ignore = c.any<int64_t>({-100, 0, 1, INT64_MIN, INT64_MAX});
  if (c.one_in(4)) o.target.smoothing = rarely() ? c.number() : c.any<double>({0.1, 1, 1e-300, 0.5});
  const auto maybe = [&](uint64_t one_in, const Shape& shape, DType type) {
    return !c.one_in(one_in) ? Tensor() : rarely() ? c.tensor() : c.tensor(shape, type);
  };
  call.in.class_weights = maybe(3, {classes}, x.dtype());
  call.in.element_weights = maybe(4, call.rows, c.any<DType>({DType::f32, DType::f64, DType::f16, DType::bf16}));
  if (!dense || rarely()) call.in.ignore = maybe(5, {}, DType::i64);
  call.in.grad_addend = maybe(6, x.shape(), x.dtype());
  Reduction& r = o.reduction;
  r.kind = static_cast<Reduction::Kind>(c.below(rarely() ? 5 : 4));
  if (r.kind == Reduction::Kind::mean || rarely()) call.in.normalizer = maybe(5, {}, DType::f64);
  r.denominator = static_cast<Reduction::Denominator>(c.below(rarely() ? 7 : 6));
  if (dense && r.denominator == Reduction::Denominator::label_weights && !rarely()) r.denominator = {};
  r.when_zero = static_cast<Reduction::WhenZero>(c.below(rarely() ? 6 : 5));
  r.batch_axis = rarely() ? static_cast<int>(c.from(-5, 5)) : axis == 0 ? -1 : 0;
  o.validate = c.one_in(5);
  o.scale = c.one_in(4) ? c.number() : 1;
  if (c.one_in(4)) o.output.dtype = c.dtype();
  o.output.log_probs = c.one_in(5);
  using Parity = SoftmaxCrossEntropyOptions::Parity;
  o.parity.out_of_range = c.one_in(2) ? Parity::OutOfRange::error : static_cast<Parity::OutOfRange>(c.below(4));
  if (c.one_in(6) && !call.in.class_weights) o.parity.dense_grad = Parity::DenseGrad::prob_minus_target;
  o.parity.multiply_zeros = c.one_in(5);
  o.parity.divide_rows = c.one_in(5);
  o.parity.zero_grad_when_zero = c.one_in(5);
  o.parity.any_smoothing = c.one_in(5);
  o.parity.smoothing_classes = c.one_in(8) ? c.any<int64_t>({1, 7, INT64_MAX}) : 0;
  return call;
}

inline Trial loss_trial(Chance& c, const Op& op) {
  const LossCall call = loss_call(c);
  const auto& [x, target, options, in, rows, not_positive] = call;
  std::vector<Tensor> inputs = {x,         target,        in.class_weights, in.element_weights, in.normalizer,
                                in.ignore, in.grad_addend};
  const auto loss_shape = [=] {
    const auto [kind, denominator, when_zero, batch_axis] = call.options.reduction;
    return kind == Reduction::Kind::none          ? call.rows
           : kind == Reduction::Kind::sample_mean ? Shape{call.x.shape()[batch_axis]}
                                                  : Shape{};
  };
  if (&op == &softmax_cross_entropy_op)
    return {inputs, [=] { return softmax_cross_entropy(call.x, call.target, call.options, call.in); }, loss_shape};
  if (&op == &softmax_cross_entropy_denominator_op) {
    inputs[0] = {};
    return {inputs,
            [=] { return softmax_cross_entropy_denominator(call.x.shape(), call.target, call.options, call.in); },
            [] { return Shape{}; }};
  }
  if (&op == &softmax_cross_entropy_grad_op) {
    Tensor statistics;
    const bool known = x && is_floating(x.dtype()) && x.elements() > 0;
    if (known && !(not_positive && c.one_in(2))) {  // the same pair for every row: that of all elements
      const Tensor all = reshape(x.to(Device::cpu()), {x.elements()}), label = Tensor::zeros({}, DType::i32);
      const Tensor pair = softmax_cross_entropy_outputs(all, label).statistics;
      statistics = mul(Tensor::ones({rows.elements(), 2}, pair.dtype()), pair).to(x.device());
    }
    Shape arriving;
    try {
      arriving = loss_shape();
    } catch (const ShapeError&) {  // of a batch axis that is none
    }
    const Tensor up = c.mostly(arriving, c.any<DType>({DType::f32, DType::f64, DType::f16, DType::bf16}));
    inputs.insert(inputs.end(), {up, statistics});
    return {inputs,
            [=] { return softmax_cross_entropy_grad(up, call.x, call.target, statistics, call.options, call.in); },
            [=] { return call.x.shape(); }};
  }
  inputs[0] = {};
  return {inputs,
          [=] {
            return softmax_cross_entropy_with_grad(call.x ? call.x.clone() : call.x, call.target, call.options, call.in)
                .grad;
          },
          [=] { return call.x.shape(); }};
}

}  // namespace op_trials
