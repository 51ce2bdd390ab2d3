// accumulate_mean:     total += n x;  count += n
// accumulate_correct:  total += number of rows whose label is among the largest logits;  count += rows
//
// A metric's state is f64 [2] = {total, count} on the device: it is added to in every step and read once per epoch.
#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/all_ops.h>
#include <xent/ops/cpu/labels.h>
#include <xent/ops/ops.h>
#include <xent/ops/samples.h>

namespace xent {

namespace {

struct MeanAttrs {
  int64_t count;
  bool operator==(const MeanAttrs&) const = default;
};

struct CorrectAttrs {
  int64_t top;
  bool operator==(const CorrectAttrs&) const = default;
};

void require_state(const char* op, const Spec& state) {
  require<ShapeError>(state.shape == Shape{2} && state.dtype == DType::f64,
                      "{}: the state is {} {}; it must be f64 [2]", op, state.dtype, state.shape);
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
  require<ShapeError>(logits.shape.rank() == 2 && logits.shape[1] > 0 && labels.shape == Shape{logits.shape[0]},
                      "accumulate_correct: logits {} and labels {}: expected [rows, classes] and [rows]", logits.shape,
                      labels.shape);
  require<DTypeError>(is_computable(logits.dtype) && is_index(labels.dtype),
                      "accumulate_correct: logits of {} and labels of {}; use f32 or f64, and u8, i32 or i64",
                      logits.dtype, labels.dtype);
  return {};
}

}  // namespace

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

}  // namespace cpu

namespace {

Tensor state_sample() { return Tensor::from<double>({3, 8}, {2}); }

Samples mean_samples(DType dtype) { return {{{state_sample(), Tensor::scalar(0.5, dtype)}, MeanAttrs{64}}}; }
Samples correct_samples(DType dtype) {
  return {{{state_sample(), normal_sample({33, 3}, dtype, 1), label_sample({33}, 3, DType::i64, 2)}, CorrectAttrs{1}},
          {{state_sample(), normal_sample({9, 7}, dtype, 3), label_sample({9}, 7, DType::i32, 4)}, CorrectAttrs{5}}};
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
    .forward = {cpu::accumulate_correct, ON_CUDA(accumulate_correct)},
    .updates = 0b1,
    .samples = correct_samples,
};

void accumulate_mean(Tensor state, const Tensor& value, int64_t count) {
  apply(accumulate_mean_op, {state, value}, MeanAttrs{count});
}
void accumulate_correct(Tensor state, const Tensor& logits, const Tensor& labels, int64_t top) {
  apply(accumulate_correct_op, {state, logits, labels}, CorrectAttrs{top});
}

}  // namespace xent
