// accumulate_mean:       total += n x;  count += n
// accumulate_correct:    total += number of rows whose label is among the largest logits;  count += rows
// accumulate_confusion:  counts[label, argmax] += 1 for each row
//
// A metric's state, f64 [2] = {total, count} or i64 [classes, classes], is on the device: it is added to in every step
// and read once per epoch.
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/cpu/labels.h>
#include <xent/ops/metrics_call.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

void require_state(const char* op, const Spec& state) {
  require<ShapeError>(state.shape == Shape{2} && state.dtype == DType::f64,
                      "{}: the state is {} {}; it must be f64 [2]", op, state.dtype, state.shape);
}

void require_rows(const char* op, const Spec& logits, const Spec& labels) {
  require<ShapeError>(logits.shape.rank() == 2 && logits.shape[1] > 0 && labels.shape == Shape{logits.shape[0]},
                      "{}: logits {} and labels {}: expected [rows, classes] and [rows]", op, logits.shape,
                      labels.shape);
  require<DTypeError>(is_computable(logits.dtype) && is_index(labels.dtype),
                      "{}: logits of {} and labels of {}; use f32 or f64, and u8, i32 or i64", op, logits.dtype,
                      labels.dtype);
}

Specs infer_mean_metric(std::span<const Spec> in, const Attrs& attrs) {
  require<ArgumentError>(attrs.as<MeanAttrs>().count >= 0, "accumulate_mean: a count of {}",
                         attrs.as<MeanAttrs>().count);
  require_state("accumulate_mean", in[0]);
  require<ShapeError>(in[1].shape.elements() == 1, "accumulate_mean: the value has shape {}, not one element",
                      in[1].shape);
  require<DTypeError>(is_computable(in[1].dtype), "accumulate_mean: takes f32 and f64, not {}", in[1].dtype);
  return {};
}

Specs infer_correct(std::span<const Spec> in, const Attrs& attrs) {
  const Spec &logits = in[1], &labels = in[2];
  require<ArgumentError>(attrs.as<CorrectAttrs>().top >= 1, "accumulate_correct: top {} must be at least 1",
                         attrs.as<CorrectAttrs>().top);
  require_state("accumulate_correct", in[0]);
  require_rows("accumulate_correct", logits, labels);
  return {};
}

Specs infer_confusion(std::span<const Spec> in, const Attrs&) {
  const Spec &counts = in[0], &logits = in[1];
  require_rows("accumulate_confusion", logits, in[2]);
  require<ShapeError>(counts.shape == Shape{logits.shape[1], logits.shape[1]} && counts.dtype == DType::i64,
                      "accumulate_confusion: the counts are {} {}; for logits {} they must be i64 [classes, classes]",
                      counts.dtype, counts.shape, logits.shape);
  return {};
}

}  // namespace

void require_own_labels(const Call& call) {
  require<ArgumentError>(call.in[2].data != call.in[0].data,
                         "accumulate_confusion: the labels are the counts, which are updated; clone() them");
}

namespace cpu {

void accumulate_mean(const Call& call) {
  const auto count = static_cast<double>(call.attrs.as<MeanAttrs>().count);
  double* state = call.in[0].as<double>();
  dispatch_compute(call.in[1].dtype, [&]<class T>() { state[0] += count * static_cast<double>(*call.in[1].as<T>()); });
  state[1] += count;
}

// Whether fewer than `top` logits rank before the label's. A row with a NaN predicts nothing.
template <class T>
bool among_largest(const T* x, int64_t classes, int64_t label, int64_t top) {
  int64_t before = 0;
  bool valid = true;
  for (int64_t c = 0; c < classes; ++c) {
    valid &= x[c] == x[c];
    before += x[c] > x[label] || (x[c] == x[label] && c < label);
  }
  return valid && before < top;
}

void accumulate_correct(const Call& call) {
  const int64_t rows = call.in[1].shape[0], classes = call.in[1].shape[1];
  const int64_t top = call.attrs.as<CorrectAttrs>().top;
  check_labels("accumulate_correct", call.in[2], classes);
  double* state = call.in[0].as<double>();
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    dispatch_index(call.in[2].dtype, [&]<class L>() {
      const T* x = call.in[1].as<T>();
      const L* labels = call.in[2].as<L>();
      for (int64_t row = 0; row < rows; ++row)
        state[0] += among_largest(x + row * classes, classes, static_cast<int64_t>(labels[row]), top) ? 1 : 0;
    });
  });
  state[1] += static_cast<double>(rows);
}

// The first of the largest logits; -1 if one is NaN.
template <class T>
int64_t prediction(const T* x, int64_t classes) {
  int64_t best = 0;
  for (int64_t c = 0; c < classes; ++c) {
    if (x[c] != x[c]) return -1;
    if (x[c] > x[best]) best = c;
  }
  return best;
}

void accumulate_confusion(const Call& call) {
  const int64_t rows = call.in[1].shape[0], classes = call.in[1].shape[1];
  require_own_labels(call);
  check_labels("accumulate_confusion", call.in[2], classes);
  auto* counts = call.in[0].as<int64_t>();
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    dispatch_index(call.in[2].dtype, [&]<class L>() {
      const T* x = call.in[1].as<T>();
      const L* labels = call.in[2].as<L>();
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t predicted = prediction(x + row * classes, classes);
        if (predicted < 0) continue;
        int64_t& count = counts[static_cast<int64_t>(labels[row]) * classes + predicted];
        count = static_cast<int64_t>(static_cast<uint64_t>(count) + 1);  // wraps around, whatever was in there
      }
    });
  });
}

}  // namespace cpu

namespace {

Tensor state_sample() { return Tensor::from<double>({3, 8}, {2}); }

Samples mean_samples(DType dtype) { return {{{state_sample(), Tensor::scalar(0.5, dtype)}, MeanAttrs{64}}}; }
Samples correct_samples(DType dtype) {
  return {{{state_sample(), normal_sample({33, 3}, dtype, 1), label_sample({33}, 3, DType::i64, 2)}, CorrectAttrs{1}},
          {{state_sample(), normal_sample({9, 7}, dtype, 3), label_sample({9}, 7, DType::i32, 4)}, CorrectAttrs{5}}};
}
Samples confusion_samples(DType dtype) {
  const auto sample = [&](int64_t rows, int64_t classes, DType label_type) {
    return Sample{{label_sample({classes, classes}, 9, DType::i64, 3), normal_sample({rows, classes}, dtype, 1),
                   label_sample({rows}, classes, label_type, 2)},
                  {}};
  };
  return {sample(33, 4, DType::i64), sample(5, 1, DType::u8)};
}

}  // namespace

constinit const Op accumulate_mean_op = {
    .name = "accumulate_mean",
    .formula = "total += n x;  count += n",
    .inputs = 2,
    .infer = infer_mean_metric,
    .forward = {cpu::accumulate_mean, ON_CUDA(accumulate_mean)},
    .updates = 0b1,
    .samples = mean_samples,
};

constinit const Op accumulate_correct_op = {
    .name = "accumulate_correct",
    .formula = "total += sum_r [y_r among the largest x[r]];  count += rows",
    .inputs = 3,
    .infer = infer_correct,
    .forward = {cpu::accumulate_correct, ON_CUDA(accumulate_correct), nullptr, ON_CUDA(accumulate_correct_workspace)},
    .updates = 0b1,
    .checks_labels = true,
    .samples = correct_samples,
};

constinit const Op accumulate_confusion_op = {
    .name = "accumulate_confusion",
    .formula = "counts[y_r, argmax x[r]] += 1 for every row r",
    .inputs = 3,
    .infer = infer_confusion,
    .forward = {cpu::accumulate_confusion, ON_CUDA(accumulate_confusion)},
    .updates = 0b1,
    .checks_labels = true,
    .samples = confusion_samples,
};

void accumulate_mean(Tensor state, const Tensor& value, int64_t count) {
  apply(accumulate_mean_op, {state, value}, MeanAttrs{count});
}
void accumulate_correct(Tensor state, const Tensor& logits, const Tensor& labels, int64_t top) {
  apply(accumulate_correct_op, {state, logits, labels}, CorrectAttrs{top});
}
void accumulate_confusion(Tensor counts, const Tensor& logits, const Tensor& labels) {
  apply(accumulate_confusion_op, {counts, logits, labels});
}

}  // namespace xent
