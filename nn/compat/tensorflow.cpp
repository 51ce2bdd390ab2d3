// tf.losses r1.4 as two calls of one primitive. A row's loss is of the logits' dtype; weighting and reduction are in
// f32, whatever that is, and the result is of the logits' dtype again. For f32 both are one call.
#include <xent/nn/compat/tensorflow.h>

#include <algorithm>
#include <cctype>

#include <fmt/ranges.h>

#include <xent/core/require.h>
#include <xent/nn/compat/as_dtype.h>
#include <xent/nn/compat/presets.h>
#include <xent/ops/loss_rules.h>
#include <xent/ops/ops.h>

namespace xent::compat::tensorflow::losses {

namespace {

using presets::Options;

template <class... Args>
[[noreturn]] void refuse(Cause cause, std::string_view type, fmt::format_string<Args...> text, Args&&... args) {
  throw Refused(cause, type, fmt::format(text, std::forward<Args>(args)...));
}

// A call of one of the two functions: where its loss goes, and how it is weighted.
struct Loss {
  std::string scope;
  Weights weights;
  std::optional<std::string> collection;
  std::string_view reduction;
};

// Logits [rows, classes] and labels [rows] or [rows, classes], and the shape of the losses that the rows stand for.
struct Rows {
  Tensor logits, labels;
  Shape shape;
};

std::string tuple(const Shape& shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "), shape.rank() == 1 ? "," : "");
}

Shape without_last(const Shape& shape) { return without_axis(shape, shape.rank() - 1); }

Tensor as(const Tensor& x, const Shape& shape) { return x.shape() == shape ? x : reshape(x, shape); }

void require_given(const Tensor& x, const char* name) {
  if (!x) refuse(Cause::type, "ValueError", "{} must not be None.", name);
}

void check_logits(const Tensor& logits) {
  const DType dtype = logits.dtype();
  if (dtype != DType::f16 && dtype != DType::f32 && dtype != DType::f64)
    refuse(Cause::type, "TypeError",
           "Value passed to parameter 'features' has DataType {} not in list of allowed values: float16, float32, "
           "float64; cast the logits",
           dtype);
  if (logits.rank() == 0)
    refuse(Cause::rank, "ValueError", "Logits cannot be scalars - received shape {}.", tuple(logits.shape()));
}

void check_classes(const Tensor& logits) {
  if (logits.shape()[-1] == 0)
    refuse(Cause::shape, "InvalidArgumentError", "Must have at least one class, but got logits shape {}",
           logits.shape());
}

xent::Reduction parse(std::string_view reduction, const xent::Reduction& preset) {
  using Kind = xent::Reduction::Kind;
  xent::Reduction parsed = preset;
  if (reduction == Reduction::NONE) parsed.kind = Kind::none;
  else if (reduction == Reduction::SUM) parsed.kind = Kind::sum;
  else if (reduction == Reduction::MEAN) parsed.denominator = presets::Denominator::element_weights;
  else if (reduction != Reduction::SUM_BY_NONZERO_WEIGHTS)
    refuse(Cause::reduction, "ValueError", "Invalid ReductionKey {}.", reduction);
  return parsed;
}

void check_broadcast(const Shape& weights, const Shape& losses) {
  if (weights.rank() == 0) return;
  if (weights.rank() != losses.rank())
    refuse(Cause::weight_shape, "ValueError",
           "weights can not be broadcast to values. values.rank={}. weights.rank={}. values.shape={}. "
           "weights.shape={}.",
           losses.rank(), weights.rank(), tuple(losses), tuple(weights));
  for (int axis = 0; axis < losses.rank(); ++axis)
    if (weights[axis] != 1 && weights[axis] != losses[axis])
      refuse(Cause::weight_shape, "ValueError",
             "weights can not be broadcast to values. Mismatch at dim {}. values.shape={} weights.shape={}.", axis,
             losses, weights);
}

// Returns one weight per row, in f32; an empty handle stands for weights of 1.
Tensor element_weights(const Weights& weights, const Shape& losses, Device device) {
  if (weights.none()) refuse(Cause::weights_none, "ValueError", "None values not supported.");
  if (const double* number = weights.number())
    return *number == 1 ? Tensor() : Tensor::full({losses.elements()}, *number, DType::f32, device);
  const Tensor& tensor = *weights.tensor();
  check_broadcast(tensor.shape(), losses);
  const Tensor f32 = as_dtype(tensor, DType::f32);
  const Tensor each = f32.shape() == losses ? f32 : mul(Tensor::ones(losses, DType::f32, device), f32);
  return as(each, {losses.elements()});
}

// Weights and reduces losses of rows that are there already: minus log-probabilities of the only class there is.
Tensor reduce_rows(const Tensor& rows, Options options, const Tensor& weights) {
  options.input = Options::Input::log_probs;
  options.target.smoothing = 0;
  const Tensor log_probs = scale(as_dtype(rows, DType::f32), -1);
  return xent::softmax_cross_entropy(as(log_probs, {rows.elements(), 1}),
                                     Tensor::zeros({rows.elements()}, DType::u8, rows.device()), options,
                                     {.element_weights = weights});
}

Tensor compute_weighted_loss(const Rows& rows, Options options, const Loss& loss) {
  options.reduction = parse(loss.reduction, options.reduction);
  const Tensor weights = element_weights(loss.weights, rows.shape, rows.logits.device());
  check_classes(rows.logits);
  const bool none = options.reduction.kind == xent::Reduction::Kind::none;
  const DType dtype = rows.logits.dtype();
  Tensor reduced;
  if (dtype == DType::f32) {
    reduced = xent::softmax_cross_entropy(rows.logits, rows.labels, options, {.element_weights = weights});
  } else {
    Options each = options;
    each.reduction.kind = xent::Reduction::Kind::none;
    each.output.dtype = dtype;
    reduced =
        as_dtype(reduce_rows(xent::softmax_cross_entropy(rows.logits, rows.labels, each), options, weights), dtype);
  }
  if (none) reduced = as(reduced, rows.shape);
  Graph* graph = Graph::current();
  if (graph && loss.collection && !loss.collection->empty()) {
    const char* op = dtype != DType::f32 ? "Cast" : none ? "Mul" : loss.reduction == Reduction::SUM ? "Sum" : "value";
    graph->add(*loss.collection, graph->unique_name(loss.scope + op) + ":0", reduced);
  }
  return reduced;
}

// Returns what the names of a loss begin with: "head/". A scope that ends in '/' is used as it is.
std::string enter_scope(const std::optional<std::string>& scope, const char* otherwise) {
  constexpr size_t longest = 256;
  const auto plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '.'; };
  const auto legal = [&](char c) { return plain(c) || c == '_' || c == '-' || c == '/' || c == '\\'; };
  const std::string name = scope.value_or(otherwise);
  require<ArgumentError>(
      name.size() <= longest && std::ranges::all_of(name, legal) && (name.empty() || plain(name.front())),
      "losses: '{}' is not a valid scope name: letters, digits and . _ \\ - / are, at most {}, and the first of them "
      "a letter, digit or '.'",
      name.substr(0, longest), longest);
  if (name.empty() || name.back() == '/') return name;
  Graph* graph = Graph::current();
  return (graph ? graph->unique_name(name) : name) + "/";
}

Tensor squeeze_last(const Tensor& x, Cause cause) {
  if (x.rank() == 0) refuse(cause, "ValueError", "squeeze_dims[-1] not in [0, 0): there is no dimension to squeeze");
  if (x.shape()[-1] != 1)
    refuse(cause, "ValueError", "Can not squeeze dim[{}], expected a dimension of 1, got {}", x.rank() - 1,
           x.shape()[-1]);
  return as(x, without_last(x.shape()));
}

}  // namespace

Tensor softmax_cross_entropy(const Tensor& onehot_labels, const Tensor& logits, const Weights& weights,
                             double label_smoothing, const std::optional<std::string>& scope,
                             const std::optional<std::string>& loss_collection, std::string_view reduction) {
  require_given(onehot_labels, "onehot_labels");
  require_given(logits, "logits");
  const Loss loss = {enter_scope(scope, "softmax_cross_entropy_loss"), weights, loss_collection, reduction};
  const Shape& shape = logits.shape();
  if (shape != onehot_labels.shape())
    refuse(Cause::shape, "ValueError", "Shapes {} and {} are incompatible", tuple(shape), tuple(onehot_labels.shape()));
  check_logits(logits);
  Options options = presets::tensorflow;
  if (label_smoothing > 0) {  // a negative one, and NaN, count for nothing
    if (shape.rank() < 2)
      refuse(Cause::rank, "ValueError",
             "slice index 1 of dimension 0 out of bounds: smoothing reads the number of classes from axis 1, and the "
             "labels are {}",
             shape);
    options.target.smoothing = label_smoothing;
    options.parity.smoothing_classes = shape[1];
  }
  const Shape losses = without_last(shape), matrix = {losses.elements(), shape[-1]};
  const Tensor labels = as_dtype(onehot_labels.detach(), logits.dtype());
  return compute_weighted_loss({as(logits, matrix), as(labels, matrix), losses}, options, loss);
}

Tensor sparse_softmax_cross_entropy(const Tensor& labels, const Tensor& logits, const Weights& weights,
                                    const std::optional<std::string>& scope,
                                    const std::optional<std::string>& loss_collection, std::string_view reduction) {
  require_given(labels, "labels");
  require_given(logits, "logits");
  const std::string prefix = enter_scope(scope, "sparse_softmax_cross_entropy_loss");
  const int extra = logits.rank() - labels.rank() - 1;
  const Tensor index = extra == -1 ? squeeze_last(labels, Cause::rank) : labels;
  const Tensor scores = extra == 1 ? squeeze_last(logits, Cause::rank) : logits;
  const Tensor* tensor = weights.tensor();
  const bool column = tensor && tensor->rank() == index.rank() + 1;
  const Loss loss = {prefix, column ? Weights(squeeze_last(*tensor, Cause::weight_shape)) : weights, loss_collection,
                     reduction};
  check_logits(scores);
  if (index.rank() != scores.rank() - 1)
    refuse(Cause::rank, "ValueError",
           "Rank mismatch: Rank of labels (received {}) should equal rank of logits minus 1 (received {}).",
           index.rank(), scores.rank());
  if (index.dtype() != DType::i32 && index.dtype() != DType::i64)
    refuse(Cause::label_dtype, "TypeError",
           "Value passed to parameter 'labels' has DataType {} not in list of allowed values: int32, int64",
           index.dtype());
  const int64_t rows = scores.shape().product(0, scores.rank() - 1);
  if (scores.rank() == 2 && index.elements() != rows)
    refuse(Cause::shape, "ValueError", "Dimensions must be equal, but are {} and {} for logits {} and labels {}", rows,
           index.elements(), scores.shape(), index.shape());
  // Of more axes than two only the number of rows is compared, and the losses have the labels' shape.
  if (index.elements() != rows)
    refuse(Cause::shape, "InvalidArgumentError",
           "logits and labels must have the same first dimension, got logits shape [{},{}] and labels shape [{}]", rows,
           scores.shape()[-1], index.elements());
  return compute_weighted_loss({as(scores, {rows, scores.shape()[-1]}), as(index, {rows}), index.shape()},
                               presets::tensorflow_sparse, loss);
}

}  // namespace xent::compat::tensorflow::losses
