// accumulate_mean:     total += n x;  count += n
// accumulate_correct:  total += number of rows whose largest logit is the label's;  count += rows
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

Specs infer_correct(std::span<const Spec> in, const Attrs&) {
  const Spec &logits = in[1], &labels = in[2];
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

void accumulate_correct(const Call& call) {
  const int64_t rows = call.in[1].shape[0], classes = call.in[1].shape[1];
  check_labels("accumulate_correct", call.in[2], classes);
  double* state = call.in[0].as<double>();
  dispatch_compute(call.in[1].dtype, [&]<class T>() {
    dispatch_index(call.in[2].dtype, [&]<class L>() {
      const L* labels = call.in[2].as<L>();
      for (int64_t row = 0; row < rows; ++row) {
        const T* x = call.in[1].as<T>() + row * classes;
        int64_t largest = 0;
        for (int64_t c = 1; c < classes && x[largest] == x[largest]; ++c)  // nothing is above a NaN, as in argmax
          if (!(x[c] <= x[largest])) largest = c;
        const bool valid = x[largest] == x[largest];  // a row of NaN predicts nothing
        state[0] += valid && largest == static_cast<int64_t>(labels[row]) ? 1 : 0;
      }
    });
  });
  state[1] += static_cast<double>(rows);
}

}  // namespace cpu

namespace {

Tensor state_sample() { return Tensor::from<double>({3, 8}, {2}); }

Samples mean_samples(DType dtype) { return {{{state_sample(), Tensor::scalar(0.5, dtype)}, MeanAttrs{64}}}; }
Samples correct_samples(DType dtype) {
  return {{{state_sample(), normal_sample({33, 3}, dtype, 1), label_sample({33}, 3, DType::i64, 2)}, {}}};
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
    .formula = "total += sum_r [argmax_c x[r,c] == y_r];  count += rows",
    .inputs = 3,
    .infer = infer_correct,
    .forward = {cpu::accumulate_correct, ON_CUDA(accumulate_correct)},
    .updates = 0b1,
    .samples = correct_samples,
};

void accumulate_mean(Tensor state, const Tensor& value, int64_t count) {
  apply(accumulate_mean_op, {state, value}, MeanAttrs{count});
}
void accumulate_correct(Tensor state, const Tensor& logits, const Tensor& labels) {
  apply(accumulate_correct_op, {state, logits, labels});
}

}  // namespace xent
