// What softmax_cross_entropy and its companions take, and the shapes and dtypes of what they return.
#include <xent/ops/loss_rules.h>

#include <cmath>

#include <xent/core/require.h>
#include <xent/ops/loss_call.h>

namespace xent {

Shape without_axis(const Shape& shape, int axis) {
  std::array<int64_t, Shape::max_rank> extents{};
  size_t rank = 0;
  for (int a = 0; a < shape.rank(); ++a)
    if (a != axis) extents[rank++] = shape[a];
  return Shape(std::span<const int64_t>(extents.data(), rank));
}

std::string shown(double sum) { return std::isnan(sum) ? "nan" : fmt::format("{:.6g}", sum + 0.0); }

namespace {

using Options = SoftmaxCrossEntropyOptions;
using Kind = Reduction::Kind;

DType wide(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

void check_options(const char* op, const Options& options, const Shape& shape) {
  const auto& [kind, denominator, when_zero, batch_axis] = options.reduction;
  const double smoothing = options.target.smoothing;
  require<ArgumentError>(
      std::isfinite(smoothing) && (options.parity.any_smoothing || (smoothing >= 0 && smoothing <= 1)),
      "{}: label smoothing {} is not in [0, 1]", op, smoothing);
  require<ArgumentError>(options.parity.smoothing_classes >= 0, "{}: smoothing over {} classes", op,
                         options.parity.smoothing_classes);
  require<ArgumentError>(std::isfinite(options.scale), "{}: scale {} is not finite", op, options.scale);
  const auto known = [&](const char* what, auto value, auto last) {  // what was cast from a number may be anything
    require<ArgumentError>(static_cast<int>(value) >= 0 && value <= last, "{}: unknown {} {}", op, what,
                           static_cast<int>(value));
  };
  known("reduction", kind, Kind::sample_mean);
  known("denominator", denominator, Reduction::Denominator::target_mass);
  known("rule for a denominator of 0", when_zero, Reduction::WhenZero::error_if_not_positive);
  known("kind of input", options.input, Options::Input::log_probs);
  known("rule for labels out of range", options.parity.out_of_range, Options::Parity::OutOfRange::no_target);
  known("gradient of a distribution", options.parity.dense_grad, Options::Parity::DenseGrad::prob_minus_target);
  const auto resolved = [&](int64_t axis) {  // the public functions do it; who applies the op need not
    require<ShapeError>(axis >= 0 && axis < shape.rank(), "{}: axis {} is not in [0, {}) of shape {}", op, axis,
                        shape.rank(), shape);
  };
  resolved(options.axis);
  if (kind == Kind::sample_mean) resolved(batch_axis);
  require<ArgumentError>(kind != Kind::sample_mean || batch_axis != options.axis,
                         "{}: axis {} of shape {} is that of the classes and cannot be the batch's", op, batch_axis,
                         shape);
}

// Checks the target against the logits' shape, and the weights against both. Returns the shape of the rows.
Shape check_target(const char* op, std::span<const Spec> in, const Shape& shape, const Options& options) {
  const Spec &target = in[loss_in::target], &classes = in[loss_in::class_weights];
  const Spec &elements = in[loss_in::element_weights], &ignore = in[loss_in::ignore];
  const auto axis = static_cast<int>(options.axis);
  const Shape rows = without_axis(shape, axis);
  require<ShapeError>(shape[axis] > 0, "{}: logits {} have no class", op, shape);
  if (is_floating(target.dtype)) {
    require<ShapeError>(
        target.shape == shape,
        "{}: a target of {} is a distribution and needs the logits' shape {}, not {}; indices are u8, i32 "
        "or i64",
        op, target.dtype, shape, target.shape);
    require<ArgumentError>(!options.target.ignore && !ignore,
                           "{}: a distribution has no label to ignore; give the row "
                           "an element weight of 0",
                           op);
    require<ArgumentError>(options.reduction.denominator != Reduction::Denominator::label_weights,
                           "{}: a distribution has no label to weigh; choose another denominator", op);
  } else {
    const bool squeezable = target.shape.elements() == rows.elements() && target.shape.rank() > rows.rank();
    require<ShapeError>(target.shape == rows,
                        "{}: labels {} must be {}, one per row of logits {} (classes on axis {}){}", op, target.shape,
                        rows, shape, axis,
                        squeezable              ? "; reshape them"
                        : target.shape == shape ? "; cast them to the logits' dtype if they are a distribution"
                                                : "");
  }
  require<ShapeError>(!classes || classes.shape == Shape{shape[axis]},
                      "{}: class weights {} must be [{}], one per class", op, classes.shape, shape[axis]);
  require<ArgumentError>(!classes || options.parity.dense_grad == Options::Parity::DenseGrad::exact,
                         "{}: the gradient p - q knows no class weights", op);
  require<ShapeError>(!elements || elements.shape == rows, "{}: element weights {} must be {}, one per row", op,
                      elements.shape, rows);
  for (const Spec* weights : {&classes, &elements})
    require<DTypeError>(!*weights || is_floating(weights->dtype), "{}: weights are {}; cast them", op, weights->dtype);
  require<DTypeError>(!ignore || ignore.dtype == DType::i64, "{}: the label to ignore is {}, not i64", op,
                      ignore.dtype);
  require<ShapeError>(!ignore || (ignore.shape.rank() <= 1 && ignore.shape.elements() == 1),
                      "{}: the label to ignore has shape {}; it is one number", op, ignore.shape);
  return rows;
}

Shape check_all(const char* op, std::span<const Spec> in, const Options& options) {
  const Spec &logits = in[loss_in::logits], &normalizer = in[loss_in::normalizer], &addend = in[loss_in::grad_addend];
  require<DTypeError>(is_floating(logits.dtype), "{}: logits are {}, not floating (the arguments are logits, target)",
                      op, logits.dtype);
  check_options(op, options, logits.shape);
  const Shape rows = check_target(op, in, logits.shape, options);
  require<DTypeError>(!normalizer || is_computable(normalizer.dtype), "{}: the normalizer is {}; use f32 or f64", op,
                      normalizer.dtype);
  require<ShapeError>(!normalizer || normalizer.shape == Shape{}, "{}: the normalizer has shape {}; it is one number",
                      op, normalizer.shape);
  require<ArgumentError>(!normalizer || options.reduction.kind == Kind::mean,
                         "{}: a normalizer divides a mean, and this is another reduction", op);
  require<ShapeError>(!addend || addend.shape == logits.shape, "{}: {} to add to the gradient of logits {}", op,
                      addend.shape, logits.shape);
  require<DTypeError>(!addend || is_floating(addend.dtype), "{}: {} to add to a gradient", op, addend.dtype);
  return rows;
}

Shape loss_shape(const Shape& rows, const Shape& logits, const Reduction& reduction) {
  if (reduction.kind == Kind::none) return rows;
  return reduction.kind == Kind::sample_mean ? Shape{logits[reduction.batch_axis]} : Shape{};
}

}  // namespace

Specs loss_rule(const Op& op, std::span<const Spec> in, const Attrs& attrs) {
  const auto& [options, with_grad, classes] = attrs.as<LossAttrs>();
  const Shape rows = check_all(op.name, in, options);
  const Spec& logits = in[loss_in::logits];
  const DType out = options.output.dtype.value_or(wide(logits.dtype));
  require<DTypeError>(is_floating(out), "{}: an output of {}", op.name, out);
  const Shape none{0};
  return {{loss_shape(rows, logits.shape, options.reduction), out},
          {Shape{rows.elements(), 2}, wide(logits.dtype)},
          {{}, DType::f64},
          {{}, DType::f64},
          {options.output.log_probs ? logits.shape : none, out},
          {with_grad && !op.updates ? logits.shape : none, logits.dtype}};
}

Specs loss_grad_rule(std::span<const Spec> in, const Attrs& attrs) {
  constexpr const char* op = "softmax_cross_entropy_grad";
  const auto& options = attrs.as<LossAttrs>().options;
  const Shape rows = check_all(op, in, options);
  const Spec &logits = in[loss_in::logits], &upstream = in[loss_in::grad_loss], &pairs = in[loss_in::statistics];
  const Shape loss = loss_shape(rows, logits.shape, options.reduction);
  require<ShapeError>(upstream.shape == loss, "{}: a gradient {} arrives at a loss {}", op, upstream.shape, loss);
  require<DTypeError>(is_floating(upstream.dtype), "{}: the gradient that arrives is {}", op, upstream.dtype);
  require<ShapeError>(!pairs || (pairs.shape == Shape{rows.elements(), 2} && pairs.dtype == wide(logits.dtype)),
                      "{}: statistics {} {} for logits {} {}; pass what forward returned", op, pairs.dtype, pairs.shape,
                      logits.dtype, logits.shape);
  const DType out = options.output.dtype.value_or(logits.dtype);
  require<DTypeError>(is_floating(out), "{}: a gradient of {}", op, out);
  return {{logits.shape, out}};
}

Specs loss_denominator_rule(std::span<const Spec> in, const Attrs& attrs) {
  constexpr const char* op = "softmax_cross_entropy_denominator";
  const auto& [options, with_grad, classes] = attrs.as<LossAttrs>();
  const Spec& target = in[loss_in::target];
  const bool dense = is_floating(target.dtype);
  const int rank = target.shape.rank() + (dense ? 0 : 1);
  require<ShapeError>(options.axis >= 0 && options.axis < rank && rank <= Shape::max_rank,
                      "{}: target {} for classes on axis {}", op, target.shape, options.axis);
  const auto axis = static_cast<int>(options.axis);
  const Shape shape = dense ? target.shape : logits_shape(target.shape, axis, classes);
  check_options(op, options, shape);
  check_target(op, in, shape, options);
  return {{{}, DType::f64}};
}

}  // namespace xent
