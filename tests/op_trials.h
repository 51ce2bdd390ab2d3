// One random call of each op, as its public function makes it: the usual, the empty and the absurd.
//
//   Chance chance(seed);
//   const Trial trial = trial_of(relu_op, chance);
//   const Tensor y = trial.call();   // or an Error; y.shape() == trial.shape()
//
// With chance.device the same seed gives the same call with the same values there.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include <xent/xent.h>

#include "loss_op_trials.h"

namespace op_trials {

using namespace xent;

inline Trial like_input_trial(Chance& c, const Op& op) {
  const Tensor x = c.tensor();
  const auto call = [=, &op, number = c.number(), axis = c.axis()] {
    if (&op == &scale_op) return scale(x, number);
    if (&op == &shift_op) return shift(x, number);
    if (&op == &softmax_op) return softmax(x, axis);
    if (&op == &log_softmax_op) return log_softmax(x, axis);
    if (&op == &cast_op) return cast(x, static_cast<DType>((axis & 7) % 7));
    return apply(op, {x})[0];
  };
  return {{x}, call, [=] { return x.shape(); }};
}

inline Trial binary_trial(Chance& c, const Op& op) {
  const Tensor a = c.tensor();
  Extents extents(a.shape().begin() + c.from(0, a.rank()), a.shape().end());
  for (int64_t& extent : extents) extent = c.one_in(3) ? 1 : extent;
  const Tensor b = c.one_in(2) ? c.like(a) : c.tensor(shape_of(extents), a.dtype());
  const std::vector<Tensor> in = c.one_in(2) ? std::vector{a, b} : std::vector{b, a};
  return {in, [=, &op] { return xent::apply(op, in)[0]; }, [=] { return broadcast("", a.shape(), b.shape()); }};
}

inline Trial reduction_trial(Chance& c, const Op& op) {
  const auto f = &op == &sum_op ? sum : mean;
  const Tensor x = c.tensor();
  const bool keep = c.one_in(2);
  const int64_t axis = c.axis();
  if (c.one_in(4)) return {{x}, [=] { return sum(f(x, {}, keep)); }, [] { return Shape{}; }};
  return {{x}, [=] { return f(x, {axis}, keep); }, [=] { return replaced(x, axis, Extents(keep, 1)); }};
}

inline Trial random_trial(Chance& c, const Op& op) {
  const auto f = &op == &uniform_op ? uniform : normal;
  const Shape shape = c.shape();
  const double a = c.number(), b = c.number();
  const DType dtype = c.dtype();
  Generator generator(1, c.device);
  return {{}, [=]() mutable { return f(shape, a, b, generator, dtype); }, [=] { return shape; }};
}

inline Trial matmul_trial(Chance& c) {
  const MatmulOptions o{c.one_in(2), c.one_in(2)};
  const int64_t m = c.from(0, 3), k = c.from(0, 3), n = c.from(0, 3);
  const Tensor a = c.mostly(o.transpose_a ? Shape{k, m} : Shape{m, k}, c.dtype());
  const Tensor b = c.mostly(o.transpose_b ? Shape{n, k} : Shape{k, n}, a.dtype());
  return {{a, b},
          [=] { return matmul(a, b, o); },
          [=] {
            return Shape{a.shape()[o.transpose_a], b.shape()[!o.transpose_b]};
          }};
}

inline Trial linear_trial(Chance& c) {
  const Tensor x = c.tensor(), weight = c.mostly({x.rank() > 0 ? x.shape()[-1] : 1, c.from(0, 4)}, x.dtype());
  const Tensor bias = c.one_in(2) ? Tensor() : c.mostly({weight.rank() > 0 ? weight.shape()[-1] : 1}, x.dtype());
  const auto f = static_cast<Activation>(c.below(5));  // 4 is no activation
  return {{x, weight, bias},
          [=] { return linear(x, weight, bias, f); },
          [=] { return replaced(x, -1, {weight.shape()[1]}); }};
}

// Options of windows: mostly ones that fit, at times absurd. Much padding is an honest wish for much memory: left out.
inline int64_t window_option(Chance& c, int64_t low, int64_t high) {
  return c.one_in(25) ? c.any<int64_t>({INT64_MIN, INT64_MAX, -1, 0, 1 << 30}) : c.from(low, high);
}
inline Extent2d window_options(Chance& c, int64_t low, int64_t high) {
  return {window_option(c, low, high), window_option(c, low, high)};
}
inline Extent2d paddings(Chance& c, int64_t high) {
  return c.one_in(25) ? Extent2d(c.any<int64_t>({INT64_MIN, INT64_MAX, -1, 1 << 30})) : Extent2d(c.from(0, high));
}

inline int64_t window_places(int64_t extent, int64_t window, int64_t stride, int64_t padding, int64_t dilation) {
  return (extent + 2 * padding - dilation * (window - 1) - 1) / stride + 1;
}

inline Tensor images(Chance& c) {
  return c.one_in(12) ? c.tensor() : c.tensor({c.from(0, 3), c.from(0, 7), c.from(1, 7), c.from(1, 4)}, c.dtype());
}

inline Trial conv2d_trial(Chance& c, const Op& op) {
  const Tensor x = images(c);
  const Tensor weight =
      c.mostly({c.from(1, 3), c.from(1, 3), x.rank() > 0 ? x.shape()[-1] : 1, c.from(0, 4)}, x.dtype());
  const Tensor bias = c.one_in(2) ? Tensor() : c.mostly({weight.rank() > 0 ? weight.shape()[-1] : 1}, x.dtype());
  const Conv2dOptions o = {window_options(c, 1, 3), paddings(c, 3), window_options(c, 1, 2),
                           static_cast<Activation>(c.one_in(20) ? 4 : c.below(4))};
  const bool pooled = &op == &conv2d_max_pool2d_op;
  return {{x, weight, bias},
          [=] { return pooled ? conv2d_max_pool2d(x, weight, bias, o) : conv2d(x, weight, bias, o); },
          [=] {
            const Shape &a = x.shape(), &w = weight.shape();
            const int64_t unit = pooled ? 2 : 1;
            return Shape{a[0], window_places(a[1], w[0], o.stride.height, o.padding.height, o.dilation.height) / unit,
                         window_places(a[2], w[1], o.stride.width, o.padding.width, o.dilation.width) / unit, w[3]};
          }};
}

inline Trial pool_trial(Chance& c, const Op& op) {
  const Tensor x = images(c);
  if (&op == &global_avg_pool2d_op)
    return {{x}, [=] { return global_avg_pool2d(x); }, [=] { return Shape{x.shape()[0], x.shape()[3]}; }};
  Pool2dOptions o = {window_options(c, 1, 4), c.one_in(3) ? Extent2d(0) : window_options(c, 1, 3), paddings(c, 1)};
  const auto f = &op == &max_pool2d_op ? max_pool2d : avg_pool2d;
  return {{x},
          [=] { return f(x, o); },
          [=] {
            const Shape& a = x.shape();
            const Extent2d stride = o.stride == 0 ? o.window : o.stride;
            return Shape{a[0], window_places(a[1], o.window.height, stride.height, o.padding.height, 1),
                         window_places(a[2], o.window.width, stride.width, o.padding.width, 1), a[3]};
          }};
}

inline Trial update_trial(Chance& c, const Op& op) {
  const Tensor x = c.tensor(), g = c.like(x), m = c.like(x), v = c.one_in(3) ? Tensor() : c.like(x);
  const Tensor rate = c.mostly({}, DType::f32), steps = c.mostly({}, DType::i64), state = c.mostly({2}, DType::f64);
  const Tensor total = c.mostly({}, DType::f64);
  const Tensor logits = c.tensor({c.from(0, 4), c.from(0, 4)}, c.dtype()), labels = c.labels({logits.shape()[0]}, 4);
  const double a = c.number(), b = c.one_in(2) ? 0 : c.number();
  const int64_t by = c.axis();
  const auto trial = [&](const std::vector<Tensor>& in, auto update) -> Trial {
    return {in, [=] { return update(), in[0]; }, [=] { return in[0].shape(); }};
  };
  if (&op == &sgd_step_op) return trial({x, g, v, rate}, [=] { sgd_step(x, g, v, rate, {b, by > 0, a}); });
  if (&op == &adam_step_op)
    return trial({x, g, m, v, rate, steps}, [=] { adam_step(x, g, m, v, rate, steps, {a, b, a, b, by > 0}); });
  if (&op == &advance_op) return trial({steps}, [=] { advance(steps, by); });
  if (&op == &accumulate_squares_op) return trial({total, x}, [=] { accumulate_squares(total, x); });
  if (&op == &clip_to_norm_op) return trial({x, total}, [=] { clip_to_norm(x, total, a); });
  if (&op == &schedule_rate_op) {
    const Tensor base = c.mostly({}, DType::f32);
    const ScheduleOptions o{static_cast<Decay>(c.below(5)), c.one_in(4) ? by : 2, c.one_in(4) ? by : 3, std::abs(a),
                            std::abs(b)};
    return trial({rate, base, steps}, [=] { schedule_rate(rate, base, steps, o); });  // 4 is no decay
  }
  if (&op == &accumulate_mean_op) return trial({state, rate}, [=] { accumulate_mean(state, rate, by); });
  if (&op == &accumulate_confusion_op) {
    const int64_t classes = logits.shape()[1];
    const Tensor counts = c.mostly({classes, classes}, DType::i64);
    return trial({counts, logits, labels}, [=] { accumulate_confusion(counts, logits, labels); });
  }
  return trial({state, logits, labels}, [=] { accumulate_correct(state, logits, labels); });
}

inline Trial batch_norm_trial(Chance& c, bool frozen) {
  const Tensor x =
      c.one_in(12) ? c.tensor() : c.tensor({c.from(0, 3), c.from(1, 3), c.from(1, 3), c.from(0, 4)}, c.dtype());
  const Shape channels = x.rank() > 0 ? Shape{x.shape()[-1]} : Shape{};
  const auto maybe = [&] { return c.one_in(3) ? Tensor() : c.mostly(channels, x.dtype()); };
  const Tensor weight = maybe(), bias = maybe(), mean = c.mostly(channels, x.dtype()),
               var = c.mostly(channels, x.dtype());
  const double epsilon = std::abs(c.number()), momentum = c.one_in(4) ? c.number() : 0.25;
  return {{x, weight, bias, mean, var},
          [=] {
            return frozen ? batch_norm2d_frozen(x, weight, bias, mean, var, epsilon)
                          : batch_norm2d(x, weight, bias, mean, var, {momentum, epsilon});
          },
          [=] { return x.shape(); }};
}

inline Trial layer_norm_trial(Chance& c) {
  const Tensor x = c.tensor();
  const int64_t axes = c.one_in(4) ? c.axis() : c.from(1, std::max(x.rank(), 1));
  const bool fits = axes >= 1 && axes <= x.rank();
  const Shape row = fits ? shape_of(Extents(x.shape().end() - axes, x.shape().end())) : Shape{};
  const auto maybe = [&] { return c.one_in(3) ? Tensor() : c.mostly(row, x.dtype()); };
  const Tensor weight = maybe(), bias = maybe();
  const double epsilon = std::abs(c.number());
  return {{x, weight, bias}, [=] { return layer_norm(x, weight, bias, {axes, epsilon}); }, [=] { return x.shape(); }};
}

inline Trial dropout_trial(Chance& c) {
  const Tensor x = c.tensor(), state = c.mostly({2}, DType::i64);
  const double p = c.one_in(4) ? c.number() : c.uniform();
  Generator generator(1, c.device);
  if (state && state.shape() == Shape{2} && state.dtype() == DType::i64) Tensor(generator.state()).copy_from(state);
  return {{x, generator.state()}, [=]() mutable { return dropout(x, p, generator); }, [=] { return x.shape(); }};
}

inline Trial shift_flip_trial(Chance& c) {
  const Tensor x =
      c.one_in(12) ? c.tensor() : c.tensor({c.from(0, 3), c.from(0, 4), c.from(1, 4), c.from(0, 3)}, c.dtype());
  const auto most = [&](int64_t axis) {
    return c.one_in(6) || x.rank() <= axis ? c.axis() : c.from(0, x.shape()[axis]);
  };
  const ShiftFlipOptions o{{most(1), most(2)}, c.one_in(2), c.one_in(3) ? c.number() : 0.5};
  Generator generator(1, c.device);
  Tensor state = generator.state();
  state.copy_from(Tensor::from<int64_t>({1, c.any<int64_t>({0, -1, INT64_MAX, INT64_MIN, 0xFFFFFFFF})}, {2}, c.device));
  return {{x, state}, [=]() mutable { return random_shift_flip(x, o, generator); }, [=] { return x.shape(); }};
}

inline Trial permute_trial(Chance& c) {
  const Tensor x = c.tensor();
  Extents axes(static_cast<size_t>(x.rank()));
  for (size_t i = 0; i < axes.size(); ++i) {
    axes[i] = static_cast<int64_t>(i);
    std::swap(axes[i], axes[c.below(i + 1)]);
  }
  for (int64_t& axis : axes)
    if (c.one_in(20)) axis = c.axis();
  if (c.one_in(12)) axes.resize(c.below(12));
  return {{x},
          [=] { return permute(x, axes); },
          [=] {
            Extents extents;
            for (const int64_t axis : axes) extents.push_back(x.shape()[axis]);
            return shape_of(extents);
          }};
}

inline Trial concat_trial(Chance& c) {
  const Tensor x = c.tensor();
  const bool fits = x.rank() > 0 && !c.one_in(8);
  const int64_t axis = fits ? c.from(-x.rank(), x.rank() - 1) : c.axis();
  std::vector<Tensor> in = {x};
  while (!c.one_in(4))
    in.push_back(fits && !c.one_in(20) ? c.mostly(replaced(x, axis, {c.from(0, 3)}), x.dtype()) : c.like(x));
  return {in, [=] { return concat(in, axis); },
          [=] {
            int64_t extent = 0;
            for (const Tensor& part : in) extent += part.shape()[axis];
            return replaced(x, axis, {extent});
          }};
}

inline Trial view_trial(Chance& c, const Op& op) {
  const Tensor x = c.tensor();
  const int64_t a = c.axis(), b = c.axis(), n = x.elements();
  const Shape shape = c.any<Shape>({{n}, {n, 1, 1}, {n / 2, 2}, c.shape()});
  if (&op == &reshape_op) return {{x}, [=] { return reshape(x, shape); }, [=] { return shape; }};
  return {{x}, [=] { return slice_rows(x, a, b); }, [=] { return replaced(x, 0, {b - a}); }};
}

inline Trial argmax_trial(Chance& c) {
  const Tensor x = c.tensor();
  const int64_t axis = c.axis();
  return {{x}, [=] { return argmax(x, axis); }, [=] { return replaced(x, axis, {}); }};
}

inline Trial pick_trial(Chance& c) {
  const Tensor x = c.tensor();
  const Tensor labels = x.rank() > 0 ? c.labels(replaced(x, -1, {}), x.shape()[-1]) : c.labels({}, 1);
  return {{x, labels}, [=] { return pick(x, labels); }, [=] { return labels.shape(); }};
}

inline Trial gather_batch_trial(Chance& c) {
  const Tensor pixels = c.one_in(10) ? c.tensor() : cast(c.tensor(c.shape(), DType::f32), DType::u8);
  const int64_t samples = pixels.rank() > 0 ? pixels.shape()[0] : c.from(0, 3);
  const auto bytes = [&](const Tensor& x) { return x && !c.one_in(20) ? cast(x, DType::u8) : x; };
  const Tensor labels = bytes(c.labels({samples}, 256)), some = c.labels({c.from(0, 4)}, samples);
  const Tensor indices = some && !c.one_in(20) ? cast(some, DType::i64) : some;
  return {
      {pixels, labels, indices},
      [=, scale = c.number(), offset = c.number()] { return gather_batch(pixels, labels, indices, scale, offset)[0]; },
      [=] { return replaced(pixels, 0, {indices.elements()}); }};
}

inline Trial trial_of(const Op& op, Chance& c) {
  const auto is = [&](const auto&... ops) { return ((&op == &ops) || ...); };
  if (is(add_op, sub_op, mul_op, div_op)) return binary_trial(c, op);
  if (is(sum_op, mean_op)) return reduction_trial(c, op);
  if (is(uniform_op, normal_op)) return random_trial(c, op);
  if (is(matmul_op)) return matmul_trial(c);
  if (is(linear_op)) return linear_trial(c);
  if (is(conv2d_op, conv2d_max_pool2d_op)) return conv2d_trial(c, op);
  if (is(max_pool2d_op, avg_pool2d_op, global_avg_pool2d_op)) return pool_trial(c, op);
  if (is(batch_norm2d_op, batch_norm2d_frozen_op)) return batch_norm_trial(c, is(batch_norm2d_frozen_op));
  if (is(layer_norm_op)) return layer_norm_trial(c);
  if (is(dropout_op)) return dropout_trial(c);
  if (is(random_shift_flip_op)) return shift_flip_trial(c);
  if (is(permute_op)) return permute_trial(c);
  if (is(concat_op)) return concat_trial(c);
  if (is(argmax_op)) return argmax_trial(c);
  if (is(pick_op)) return pick_trial(c);
  if (is(gather_batch_op)) return gather_batch_trial(c);
  if (is(softmax_cross_entropy_op, softmax_cross_entropy_in_place_op, softmax_cross_entropy_grad_op,
         softmax_cross_entropy_denominator_op))
    return loss_trial(c, op);
  if (op.view) return view_trial(c, op);
  return op.updates ? update_trial(c, op) : like_input_trial(c, op);  // also ops to come, of one input
}

}  // namespace op_trials
