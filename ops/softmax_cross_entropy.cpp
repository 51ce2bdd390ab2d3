// softmax_cross_entropy, per row with label y and weight w:
//
//   m = max_c x_c,   s = sum_c exp(x_c - m)
//   loss = w (log s - (x_y - m))
//   dx_c = w g (exp(x_c - m - log s) - [c == y])      g: the upstream gradient, divided by the denominator of a mean
//
// The fusion saves everything of the logits' size but the gradient itself: forward reads the logits once from memory
// and keeps (m, log s) per row, backward reads them once and writes once. The pair is kept apart because m + log s
// loses the digits of log s under a large common offset. Arithmetic is in the logits' type; sums over classes and rows,
// weights and denominator are in f64, rows in chunks that depend on the shape only.
//
// Per row: label, ignored?, in range?, weight, and only then the logits. An ignored row is not read.
#include <xent/ops/softmax_cross_entropy.h>

#include <array>
#include <limits>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/check.h>
#include <xent/ops/cpu/labels.h>
#include <xent/ops/cpu/rows.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

struct LossAttrs {
  int axis;  // resolved: [0, rank)
  std::optional<int64_t> ignore;
  Reduction reduction;
  bool operator==(const LossAttrs&) const = default;
};

// Inputs:  0 logits, 1 labels, 2 class weights (optional).
// Outputs: 0 loss, 1 statistics [rows, 2] of the logits' type, 2 denominator [] f64.
Specs infer_loss(std::span<const Spec> in, const Attrs& attrs) {
  constexpr const char* op = "softmax_cross_entropy";
  const Spec &logits = in[0], &labels = in[1], &weights = in[2];
  const auto& [axis, ignore, reduction] = attrs.as<LossAttrs>();
  const int64_t classes = logits.shape[axis];

  require<DTypeError>(is_computable(logits.dtype),
                      "{}: logits are {}; use f32 or f64 (the arguments are logits, labels)", op, logits.dtype);
  const bool one_hot = is_floating(labels.dtype) && labels.shape == logits.shape;
  require<DTypeError>(is_index(labels.dtype), "{}: labels are {}; use u8, i32 or i64{}", op, labels.dtype,
                      one_hot ? ", class indices: argmax(labels) if they are one-hot" : ": cast(labels, DType::i64)");

  require<ArgumentError>(reduction.kind <= Reduction::Kind::mean, "{}: unknown reduction {}", op,
                         static_cast<int>(reduction.kind));

  std::array<int64_t, Shape::max_rank> extents{};
  size_t rank = 0;
  for (int a = 0; a < logits.shape.rank(); ++a)
    if (a != axis) extents[rank++] = logits.shape[a];
  const Shape rows(std::span<const int64_t>(extents.data(), rank));
  const bool squeezable = labels.shape.elements() == rows.elements() && labels.shape.rank() > rows.rank();
  require<ShapeError>(labels.shape == rows, "{}: labels {} must be {}, one per row of logits {} (classes on axis {}){}",
                      op, labels.shape, rows, logits.shape, axis, squeezable ? "; reshape them" : "");
  require<ShapeError>(classes > 0, "{}: logits {} have no class", op, logits.shape);
  require<ShapeError>(!weights || weights.shape == Shape{classes}, "{}: class weights {} must be [{}], one per class",
                      op, weights.shape, classes);
  require<DTypeError>(!weights || weights.dtype == logits.dtype, "{}: class weights are {} and logits {}; cast one", op,
                      weights.dtype, logits.dtype);
  return {{reduction.kind == Reduction::Kind::none ? rows : Shape{}, logits.dtype},
          {Shape{rows.elements(), 2}, logits.dtype},
          {{}, DType::f64}};
}

}  // namespace

namespace cpu {

// The tensors of a call with their types, and what both directions do per row.
template <class T, class L>
struct Loss {
  const LossAttrs& attrs;
  Rows rows;
  const T* logits;
  const L* labels;
  const T* weights;

  explicit Loss(const Call& call)
      : attrs(call.attrs.as<LossAttrs>()),
        rows(call.in[0].shape, attrs.axis),
        logits(call.in[0].as<T>()),
        labels(call.in[1].as<L>()),
        weights(call.in[2].as<T>()) {}

  int64_t label(int64_t row) const { return static_cast<int64_t>(labels[row]); }
  bool ignored(int64_t row) const { return attrs.ignore && label(row) == *attrs.ignore; }
  T weight(int64_t row) const { return weights ? weights[label(row)] : T(1); }
};

template <class Body>
void with_types(const Call& call, Body&& body) {
  const Slice& labels = call.in[1];
  check_labels("softmax_cross_entropy", labels, call.in[0].shape[call.attrs.as<LossAttrs>().axis],
               call.attrs.as<LossAttrs>().ignore);
  dispatch_compute(call.in[0].dtype,
                   [&]<class T>() { dispatch_index(labels.dtype, [&]<class L>() { body(Loss<T, L>(call)); }); });
}

// What a run of rows adds up to.
struct Totals {
  double loss = 0;
  double weight = 0;
};

template <class T, class L>
Totals forward_rows(const Loss<T, L>& loss, int64_t begin, int64_t end, T* each, T* statistics) {
  Totals totals;
  const int64_t inner = loss.rows.inner;
  for (int64_t row = begin; row < end; ++row) {
    T row_loss = 0;
    RowStatistics<T> row_statistics_{0, 0};
    if (!loss.ignored(row)) {
      const T weight = loss.weight(row);
      const T* x = loss.logits + loss.rows.start(row);
      row_statistics_ = row_statistics(x, loss.rows.classes, inner);
      row_loss = weight * (row_statistics_.log_sum - (x[loss.label(row) * inner] - row_statistics_.max));
      totals.loss += static_cast<double>(row_loss);
      totals.weight += static_cast<double>(weight);
    }
    statistics[2 * row] = row_statistics_.max;
    statistics[2 * row + 1] = row_statistics_.log_sum;
    if (each) each[row] = row_loss;
  }
  return totals;
}

// Adds up all rows: chunk by chunk, at most 256 of them, and then the chunks in order.
template <class T, class L>
Totals forward_all(const Loss<T, L>& loss, T* each, T* statistics) {
  constexpr int64_t most_chunks = 256;
  const int64_t rows = loss.rows.count();
  const int64_t grain = std::max({int64_t{1}, (1 << 14) / loss.rows.classes, (rows + most_chunks - 1) / most_chunks});
  std::array<Totals, most_chunks> partial;
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    partial[static_cast<size_t>(begin / grain)] = forward_rows(loss, begin, end, each, statistics);
  });
  Totals totals;
  for (int64_t chunk = 0; chunk * grain < rows; ++chunk) {
    totals.loss += partial[static_cast<size_t>(chunk)].loss;
    totals.weight += partial[static_cast<size_t>(chunk)].weight;
  }
  return totals;
}

void softmax_cross_entropy(const Call& call) {
  with_types(call, [&]<class T, class L>(const Loss<T, L>& loss) {
    const Reduction& reduction = loss.attrs.reduction;
    T* out = call.out[0].as<T>();
    double& denominator = *call.out[2].as<double>();
    const bool each = reduction.kind == Reduction::Kind::none;
    const Totals totals = forward_all(loss, each ? out : nullptr, call.out[1].as<T>());
    denominator = 1;
    if (each) return;
    double value = totals.loss;
    if (reduction.kind == Reduction::Kind::mean) {
      denominator = reduction.denominator == Reduction::Denominator::rows ? static_cast<double>(loss.rows.count())
                                                                          : totals.weight;
      value = denominator != 0                                   ? value / denominator
              : reduction.when_zero == Reduction::WhenZero::zero ? 0
                                                                 : std::numeric_limits<double>::quiet_NaN();
    }
    *out = static_cast<T>(value);
  });
}

void softmax_cross_entropy_grad(const Call& call) {
  with_types(call, [&]<class T, class L>(const Loss<T, L>& loss) {
    const T* statistics = call.out[1].as<T>();
    const T* upstream = call.grad_out[0].as<T>();
    const double denominator = *call.out[2].as<double>();
    const bool each = loss.attrs.reduction.kind == Reduction::Kind::none;
    const int64_t classes = loss.rows.classes, inner = loss.rows.inner;
    loss.rows.each([&](int64_t row) {
      const int64_t start = loss.rows.start(row);
      T* dx = call.grad_in[0].as<T>() + start;
      if (denominator == 0 || loss.ignored(row)) {
        for (int64_t c = 0; c < classes; ++c) dx[c * inner] = 0;
        return;
      }
      const T* x = loss.logits + start;
      const T max = statistics[2 * row], log_sum = statistics[2 * row + 1];
      const double gradient = static_cast<double>(upstream[each ? row : 0]) / denominator;
      const T scale = static_cast<T>(gradient * static_cast<double>(loss.weight(row)));
      const int64_t label = loss.label(row);
      for (int64_t c = 0; c < classes; ++c) {
        const T p = std::exp(x[c * inner] - max - log_sum);
        dx[c * inner] = scale * (c == label ? p - 1 : p);
      }
    });
  });
}

}  // namespace cpu

namespace {

Samples loss_samples(DType dtype) {
  const auto reduce = [](Reduction::Kind kind) { return Reduction{.kind = kind}; };
  const Tensor weights = positive_sample({7}, dtype, 9);
  return {{{normal_sample({5, 7}, dtype, 1), label_sample({5}, 7, DType::i64, 2), {}}, LossAttrs{1, {}, {}}},
          {{normal_sample({5, 7}, dtype, 3), label_sample({5}, 7, DType::i32, 4), weights}, LossAttrs{1, 3, {}}},
          {{normal_sample({5, 7}, dtype, 5), label_sample({5}, 7, DType::u8, 6), weights},
           LossAttrs{1, {}, reduce(Reduction::Kind::none)}},
          {{normal_sample({2, 7, 3}, dtype, 7), label_sample({2, 3}, 7, DType::i64, 8), weights},
           LossAttrs{1, 0, reduce(Reduction::Kind::sum)}},
          {{normal_sample({300, 100}, dtype, 10), label_sample({300}, 100, DType::i64, 11), {}},
           LossAttrs{1, {}, {}}}};  // several chunks
}

}  // namespace

constinit const Op softmax_cross_entropy_op = {
    .name = "softmax_cross_entropy",
    .formula = "loss_r = w[y_r] (log sum_c exp(x[r,c]) - x[r,y_r]), reduced",
    .inputs = 3,
    .infer = infer_loss,
    .forward = {cpu::softmax_cross_entropy, ON_CUDA(softmax_cross_entropy)},
    .backward = {cpu::softmax_cross_entropy_grad, ON_CUDA(softmax_cross_entropy_grad)},
    .optional = 0b100,
    .needs_out = 0b110,
    .differentiable = 0b001,
    .differentiable_out = 0b001,
    .samples = loss_samples,
};

Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels, const SoftmaxCrossEntropyOptions& options) {
  require<ShapeError>(logits.rank() > 0, "softmax_cross_entropy: logits {} have no class axis", logits.shape());
  const LossAttrs attrs{resolve_axis("softmax_cross_entropy", logits, options.axis), options.target.ignore,
                        options.reduction};
  return apply(softmax_cross_entropy_op, {logits, labels, options.weights.classes}, attrs)[0];
}

}  // namespace xent
