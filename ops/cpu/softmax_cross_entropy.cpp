// The kernels of softmax_cross_entropy: what is done with all rows. loss_rows.h has what is done with one.
//
// Rows are taken in chunks that depend on the shape only, and what a chunk adds up to is kept in f64 and added in
// order, so the number of threads changes nothing. The logits are read once, row by row: the second pass over a row
// finds it in the cache, and so does the third, which writes the gradient if it is wanted at once.
#include <array>
#include <cmath>
#include <limits>

#include <xent/ops/cpu/loss_checks.h>
#include <xent/ops/cpu/loss_kernels.h>
#include <xent/ops/cpu/loss_rows.h>
#include <xent/ops/cpu/loss_sums.h>

namespace xent::cpu {

namespace {

using Kind = Reduction::Kind;

// Where a thread keeps the exponentials of the row it is at, if not where the gradient goes.
Kept spare_place() {
  constexpr int64_t room = 1 << 15;  // 128 KiB, which stay in the second-level cache
  alignas(64) thread_local std::array<float, room + Kept::spare> place;
  return {place.data(), room};
}

void store(const Slice& out, int64_t i, double value) {
  dispatch_floating(out.dtype, [&]<class O>() { out.as<O>()[i] = convert<O>(value); });
}

template <class T>
void forward(const char* op, const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  const auto& options = attrs.options;
  const LossRows<T> loss(call, attrs);
  check_targets(op, loss, options);
  if (options.validate) validate(op, call, loss, options);
  const Rows& rows = loss.rows();
  const Shape& shape = call.in[loss_in::logits].shape;
  const auto axis = static_cast<int>(options.axis);
  const Kind kind = options.reduction.kind;

  const double denominator =
      denominator_of(loss, options.reduction, shape, axis, Numbers{call.in[loss_in::normalizer]});
  check_denominator(op, options.reduction, denominator);
  *call.out[loss_out::denominator].as<double>() = denominator;
  const Division division = Division::of(options, denominator);
  const bool divides_rows = kind == Kind::mean && options.parity.divide_rows;  // row by row: inf - inf, or 0 if ignored

  const Slice& out = call.out[loss_out::loss];
  const Slice& log_probs = call.out[loss_out::log_probs];
  const Slice& grad = attrs.with_grad ? call.out[loss_out::grad] : Slice{};
  auto* statistics = call.out[loss_out::statistics].template as<typename LossRows<T>::W>();
  const bool may_keep =
      attrs.with_grad && grad.dtype == dtype_of<T> && !options.output.log_probs && !division.zero_grad;
  const auto one_row = [&](int64_t r) {
    const Row row = loss.row(r);
    const double weight = options.scale * row.element, upstream = weight / division.by;
    const Kept kept = may_keep ? loss.place_to_keep(row, r, upstream, grad.as<T>(), spare_place()) : Kept{};
    const bool read = (!row.skipped && !row.poisoned) || options.output.log_probs;
    const auto s = read ? loss.statistics(r, kept) : typename LossRows<T>::Statistics{0, 0};
    statistics[2 * r] = s.max;
    statistics[2 * r + 1] = s.log_sum;
    if (options.output.log_probs)
      dispatch_floating(log_probs.dtype, [&]<class O>() {
        for (int64_t c = 0, at = rows.start(r); c < rows.classes; ++c, at += rows.inner)
          log_probs.as<O>()[at] = convert<O>(loss.log_prob(at, s));
      });
    const double value = row.poisoned  ? std::numeric_limits<double>::quiet_NaN()
                         : row.skipped ? 0
                                       : weight * loss.raw(row, r, s);
    if (kind == Kind::none) store(out, r, value);
    if (attrs.with_grad) {
      Row masked = row;
      masked.skipped = row.skipped || division.zero_grad;
      dispatch_floating(grad.dtype,
                        [&]<class G>() { loss.grad_logits(masked, r, s, upstream, Numbers{}, kept, grad.as<G>()); });
    }
    return divides_rows && !row.skipped ? value / division.by : value;
  };

  // Few classes: many rows at once.
  const bool in_groups = loss.groups() && !options.output.log_probs && kind != Kind::sample_mean &&
                         !division.zero_grad && (!attrs.with_grad || grad.dtype == dtype_of<T>);
  const std::optional<LossRun> all_alike =
      in_groups && kind != Kind::none && !divides_rows ? loss.run_of(options.scale / division.by) : std::nullopt;
  const auto chunk = [&](int64_t begin, int64_t end) {
    if constexpr (!std::is_same_v<T, double>)
      if (all_alike) {
        LossRun run = *all_alike;
        run.labels = static_cast<const std::byte*>(run.labels) + begin * run.label_bytes;
        run.statistics = statistics + 2 * begin;
        const int64_t at = begin * rows.classes;
        return options.scale * loss.kernel().run(call.in[loss_in::logits].template as<T>() + at, end - begin,
                                                 rows.classes, run, attrs.with_grad ? grad.as<T>() + at : nullptr);
      }
    double sum = 0;
    each_group(loss.kernel(), begin, end, [&](int64_t first, int64_t count) {
      LossGroup group;
      std::array<Row, LossGroup::most_rows> members;
      const auto upstream = [&](const Row& row, int64_t) { return options.scale * row.element / division.by; };
      if (!loss.describe(first, count, upstream, group, members.data())) {
        for (int64_t r = first; r < first + count; ++r) sum += one_row(r);
        return;
      }
      const int64_t at = first * rows.classes;
      loss.kernel().group(call.in[loss_in::logits].template as<T>() + at, count, rows.classes, false, group,
                          attrs.with_grad ? grad.as<T>() + at : nullptr);
      for (int64_t i = 0; i < count; ++i) {
        const Row& row = members[static_cast<size_t>(i)];
        statistics[2 * (first + i)] = row.skipped ? 0 : group.max[i];
        statistics[2 * (first + i) + 1] = row.skipped ? 0 : group.log_sum[i];
        const bool counts = !row.skipped && row.label >= 0;
        const double raw = counts ? loss.class_weight(row.label) * static_cast<double>(group.surprise[i]) : 0;
        const double value = row.skipped ? 0 : options.scale * row.element * raw;
        if (kind == Kind::none) store(out, first + i, value);
        sum += divides_rows && !row.skipped ? value / division.by : value;
      }
    });
    return sum;
  };

  double total = 0;
  if (in_groups) {
    total = sum_chunks(rows, chunk);
  } else if (kind == Kind::sample_mean) {
    const SampleRows samples(shape, axis, options.reduction.batch_axis);
    const int64_t grain = std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, rows.classes * samples.per_sample));
    parallel_for(samples.samples, grain, [&](int64_t begin, int64_t end) {
      for (int64_t sample = begin; sample < end; ++sample) {
        double sum = 0;
        for (int64_t i = 0; i < samples.per_sample; ++i) sum += one_row(samples.row(sample, i));
        store(out, sample, division.zero_loss ? 0 : sum / division.by);
      }
    });
  } else {
    total = sum_rows(rows, one_row);
  }
  *call.out[loss_out::total].as<double>() = divides_rows ? total * division.by : total;
  if (kind == Kind::none || kind == Kind::sample_mean) return;
  store(out, 0, division.zero_loss ? 0 : divides_rows ? total : total / division.by);
}

void forward(const char* op, const Call& call) {
  dispatch_floating(call.in[loss_in::logits].dtype, [&]<class T>() { forward<T>(op, call); });
}

// The gradients of the inputs, shared by the op's backward and the gradient as an op of its own.
struct LossGrad {
  Slice grad_loss, grad_log_probs;
  Slice statistics;  // without data: pairs (0, 0)
  double denominator = 1, total = 0;
  Slice logits, target, element_weights;  // where the gradients go
};

template <class T>
void backward(const Call& call, const LossGrad& grad) {
  const auto& options = call.attrs.as<LossAttrs>().options;
  const LossRows<T> loss(call, call.attrs.as<LossAttrs>());
  const Rows& rows = loss.rows();
  const Division division = Division::of(options, grad.denominator);
  const Kind kind = options.reduction.kind;
  const Numbers grad_loss{grad.grad_loss}, grad_log_probs{grad.grad_log_probs};
  const SampleRows samples(call.in[loss_in::logits].shape, static_cast<int>(options.axis),
                           kind == Kind::sample_mean ? options.reduction.batch_axis : 0);
  const auto* statistics = grad.statistics.template as<typename LossRows<T>::W>();
  const auto denominator = options.reduction.denominator;
  // A mean's own denominator has a gradient as well: -total / denominator^2.
  const bool denominator_used = grad.denominator != 0 || division.by == 0;  // not where a denominator of 0 is left out
  const bool follows_denominator =
      kind == Kind::mean && denominator_used && !call.in[loss_in::normalizer] && !division.zero_grad && grad_loss;
  const double of_denominator = follows_denominator ? grad_loss[0] * grad.total / (division.by * division.by) : 0;

  const auto one_row = [&](int64_t r) {
    const Row row = loss.row(r);
    using Statistics = typename LossRows<T>::Statistics;
    Statistics s = statistics ? Statistics{statistics[2 * r], statistics[2 * r + 1]} : Statistics{0, 0};
    const bool contributes = !row.ignored && !row.poisoned && !division.zero_grad;
    const int64_t at = kind == Kind::none ? r : kind == Kind::sample_mean ? samples.sample(r) : 0;
    const double upstream = grad_loss ? grad_loss[at] * options.scale / division.by : 0;  // of e raw
    Row masked = row;
    masked.skipped = row.skipped || !grad_loss || division.zero_grad;
    if (grad.logits)
      dispatch_floating(grad.logits.dtype, [&]<class G>() {
        loss.grad_logits(masked, r, s, upstream * row.element, grad_log_probs, {}, grad.logits.as<G>());
      });
    const bool asked = grad.target || grad.element_weights;
    if (asked && statistics && row.skipped && contributes) s = loss.statistics(r);  // forward passed it by
    if (grad.target) {
      const bool shares =
          denominator == Reduction::Denominator::weight_sum || denominator == Reduction::Denominator::target_mass;
      dispatch_floating(grad.target.dtype, [&]<class Q>() {
        loss.grad_target(masked, r, s, upstream * row.element, shares ? of_denominator : 0, grad.target.as<Q>());
      });
    }
    if (grad.element_weights) {
      const double share = denominator == Reduction::Denominator::weight_sum        ? loss.mass(row, rows.start(r))
                           : denominator == Reduction::Denominator::element_weights ? 1
                                                                                    : 0;
      const double value = contributes && grad_loss ? upstream * loss.raw(row, r, s) : 0;
      store(grad.element_weights, r,
            row.poisoned ? std::numeric_limits<double>::quiet_NaN()
                         : value - (contributes && share != 0 ? share * of_denominator : 0));
    }
  };
  const bool in_groups = loss.groups() && statistics && grad.logits && grad.logits.dtype == dtype_of<T> &&
                         !grad.target && !grad.element_weights && grad_loss && !grad_log_probs &&
                         kind != Kind::sample_mean && !division.zero_grad;
  if (!in_groups) return rows.each(one_row);
  parallel_for(rows.count(), 64 * LossGroup::most_rows, [&](int64_t begin, int64_t end) {
    each_group(loss.kernel(), begin, end, [&](int64_t first, int64_t count) {
      LossGroup group;
      std::array<Row, LossGroup::most_rows> members;
      const auto upstream = [&](const Row& row, int64_t r) {
        return grad_loss[kind == Kind::none ? r : 0] * options.scale / division.by * row.element;
      };
      if (!loss.describe(first, count, upstream, group, members.data())) {
        for (int64_t i = first; i < first + count; ++i) one_row(i);
        return;
      }
      for (int64_t i = 0; i < LossGroup::most_rows; ++i) {
        group.max[i] = i < count ? static_cast<float>(statistics[2 * (first + i)]) : 0;
        group.log_sum[i] = i < count ? static_cast<float>(statistics[2 * (first + i) + 1]) : 0;
      }
      const int64_t at = first * rows.classes;
      loss.kernel().group(call.in[loss_in::logits].template as<T>() + at, count, rows.classes, true, group,
                          grad.logits.as<T>() + at);
    });
  });
}

// A gradient that forward wrote for an upstream of 1, times the upstream, which is finite. Rows that do not count stay
// +0.
void scale_ready(const Slice& ready, const Slice& dx, double upstream) {
  dispatch_compute(dx.dtype, [&]<class T>() {
    const T factor = static_cast<T>(upstream);
    parallel_for(dx.shape.elements(), 1 << 15, [&, from = ready.as<T>(), to = dx.as<T>()](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = factor * from[i] + T(0);  // -0 becomes +0
    });
  });
}

}  // namespace

void softmax_cross_entropy(const Call& call) { forward("softmax_cross_entropy", call); }

void softmax_cross_entropy_in_place(const Call& call) {
  std::array<Slice, loss_out::grad + 1> out;
  for (size_t i = 0; i < call.out.size(); ++i) out[i] = call.out[i];
  out[loss_out::grad] = call.in[loss_in::logits];
  Call all = call;
  all.out = out;
  forward("softmax_cross_entropy_in_place", all);
}

void softmax_cross_entropy_grad(const Call& call) {
  const LossGrad grad{.grad_loss = call.grad_out[loss_out::loss],
                      .grad_log_probs = call.grad_out[loss_out::log_probs],
                      .statistics = call.out[loss_out::statistics],
                      .denominator = *call.out[loss_out::denominator].as<double>(),
                      .total = *call.out[loss_out::total].as<double>(),
                      .logits = call.grad_in[loss_in::logits],
                      .target = call.grad_in[loss_in::target],
                      .element_weights = call.grad_in[loss_in::element_weights]};
  const Slice& ready = call.out[loss_out::grad];
  // Computed anew: 16 bits, which would be rounded twice, and what was rounded to 0 would stay 0; and what arrives as
  // infinity or NaN, which times the +0 of an ignored row would be NaN.
  if (call.attrs.as<LossAttrs>().with_grad && is_computable(ready.dtype) && grad.logits && !grad.target &&
      !grad.element_weights && !grad.grad_log_probs && grad.grad_loss.shape.elements() == 1 &&
      !call.in[loss_in::grad_addend] && std::isfinite(Numbers{grad.grad_loss}[0]))
    return scale_ready(ready, grad.logits, Numbers{grad.grad_loss}[0]);
  dispatch_floating(call.in[loss_in::logits].dtype, [&]<class T>() { backward<T>(call, grad); });
}

void softmax_cross_entropy_grad_op(const Call& call) {
  const auto& options = call.attrs.as<LossAttrs>().options;
  constexpr const char* op = "softmax_cross_entropy_grad";
  const Shape& shape = call.in[loss_in::logits].shape;
  const TargetRows target(call, shape, call.attrs.as<LossAttrs>());
  check_targets(op, target, options);
  if (options.validate) validate(op, call, target, options);
  const double denominator = denominator_of(target, options.reduction, shape, static_cast<int>(options.axis),
                                            Numbers{call.in[loss_in::normalizer]});
  check_denominator(op, options.reduction, denominator);
  const LossGrad grad{.grad_loss = call.in[loss_in::grad_loss],
                      .grad_log_probs = {},
                      .statistics = call.in[loss_in::statistics],
                      .denominator = denominator,
                      .total = 0,
                      .logits = call.out[0],
                      .target = {},
                      .element_weights = {}};
  dispatch_floating(call.in[loss_in::logits].dtype, [&]<class T>() { backward<T>(call, grad); });
}

void softmax_cross_entropy_denominator(const Call& call) {
  const auto& attrs = call.attrs.as<LossAttrs>();
  const auto axis = static_cast<int>(attrs.options.axis);
  const Slice& in = call.in[loss_in::target];
  const Shape shape = is_floating(in.dtype) ? in.shape : logits_shape(in.shape, axis, attrs.classes);
  const TargetRows target(call, shape, attrs);
  constexpr const char* op = "softmax_cross_entropy_denominator";
  check_targets(op, target, attrs.options);
  if (attrs.options.validate) validate(op, call, target, attrs.options);
  *call.out[0].as<double>() = denominator_of(target, attrs.options.reduction, shape, axis, Numbers{});
}

}  // namespace xent::cpu
