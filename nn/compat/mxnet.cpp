#include <xent/nn/compat/mxnet.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/op.h>
#include <xent/nn/compat/as_dtype.h>
#include <xent/nn/compat/presets.h>
#include <xent/nn/compat/refuse_unless.h>
#include <xent/ops/mxnet_labels.h>
#include <xent/ops/ops.h>

namespace xent::compat::mxnet {

namespace {

// ---- shapes ----

Shape with_extent(const Shape& shape, int axis, std::span<const int64_t> extents) {
  std::array<int64_t, Shape::max_rank> all{};
  size_t rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    if (i != axis) all[rank++] = shape[i];
    else
      for (const int64_t extent : extents) all[rank++] = extent;
  }
  return Shape(std::span<const int64_t>(all.data(), rank));
}

std::string written(const Shape& shape) {  // [4,3,1]
  std::string text = shape.str();
  std::erase(text, ' ');
  return text;
}

bool stretches(const Shape& a, const Shape& b) {
  for (int i = 1; i <= std::min(a.rank(), b.rank()); ++i)
    if (a[-i] != b[-i] && a[-i] != 1 && b[-i] != 1) return false;
  return true;
}

int resolve_axis(const Shape& pred, int64_t axis) {
  refuse_unless(axis < pred.rank() && axis >= -pred.rank(), Cause::axis, "MXNetError",
                "Check failed: axis < ndim && axis >= -ndim: axis {} exceeds the input dimension of {}", axis,
                pred.rank());
  return pred.resolve(axis);
}

int resolve_batch_axis(const Shape& loss, int64_t axis) {
  refuse_unless(axis < loss.rank(), Cause::axis, "MXNetError",
                "Check failed: axes[axes.ndim()-1] < ishape.ndim() ({} vs. {}) : Reduction axis {} Exceeds input "
                "dimensions {}",
                axis, loss.rank(), axis, written(loss));
  refuse_unless(axis >= -loss.rank(), Cause::axis, "MXNetError",
                "Check failed: axes[0] >= 0 ({} vs. 0) : Reduction axis {} Exceeds input dimensions {}",
                axis + loss.rank(), axis, written(loss));
  return loss.resolve(axis);
}

// ---- targets ----

// Returns one integer per row.
Tensor classes_of(const Tensor& label, const Shape& rows, const Shape& kept) {
  const Shape& expected = label.rank() == kept.rank() ? kept : rows;
  refuse_unless(label.shape() == expected, Cause::shape, "MXNetError",
                "Shape inconsistent, Provided = {}, inferred shape={}", written(label.shape()), written(expected));
  const bool fits = label.dtype() == DType::u8 || label.dtype() == DType::i32;
  return reshape(fits ? label : apply(mxnet_labels_op, {label.detach()})[0], rows);
}

Tensor distribution_of(const Tensor& label, const Tensor& pred) {
  refuse_unless(label.elements() >= pred.elements(), Cause::shape, "MXNetError",
                "NDArray.Reshape: Check failed: shape_.Size() >= shape.Size() ({} vs. {}) : target shape size is "
                "larger than the current shape",
                label.elements(), pred.elements());
  refuse_unless(label.elements() == pred.elements(), Cause::shape, "MXNetError",
                "NDArray.Reshape: Check failed: shape_.Size() == shape.Size() ({} vs. {}) : target shape must have the "
                "same size as current shape when recording with autograd",
                label.elements(), pred.elements());
  refuse_unless(label.dtype() == pred.dtype(), Cause::target_dtype, "MXNetError",
                "a label that is a distribution has pred's dtype, {}, not {}", pred.dtype(), label.dtype());
  return reshape(label, pred.shape());
}

}  // namespace

Tensor SoftmaxCrossEntropyLoss::operator()(const Tensor& pred, const Tensor& label, const Tensor& sample_weight) const {
  require<ArgumentError>(pred && label, "SoftmaxCrossEntropyLoss: pred and label must not be empty tensor handles");
  const int axis = resolve_axis(pred.shape(), axis_);
  const Shape rows = with_extent(pred.shape(), axis, {}),
              kept = with_extent(pred.shape(), axis, std::array{int64_t{1}});
  const Tensor target = sparse_label_ ? classes_of(label, rows, kept) : distribution_of(label, pred);

  SoftmaxCrossEntropyOptions options = presets::mxnet;
  options.axis = axis;
  if (from_logits_) options.input = SoftmaxCrossEntropyOptions::Input::log_probs;
  options.scale = weight_.value_or(1);
  options.output.dtype = pred.dtype();

  Shape losses = kept;
  if (sample_weight) {
    refuse_unless(stretches(kept, sample_weight.shape()), Cause::weight_shape, "MXNetError",
                  "Check failed: l == 1 || r == 1: operands could not be broadcast together with shapes {} {}",
                  written(kept), written(sample_weight.shape()));
    refuse_unless(sample_weight.dtype() == pred.dtype(), Cause::type, "MXNetError",
                  "sample_weight has pred's dtype, {}, not {}", pred.dtype(), sample_weight.dtype());
    losses = broadcast("SoftmaxCrossEntropyLoss", kept, sample_weight.shape());
  }
  const int batch_axis = resolve_batch_axis(losses, batch_axis_);

  if (!sample_weight || sample_weight.shape() == kept) {  // a weight per row
    const LossInputs inputs{.element_weights = sample_weight ? reshape(sample_weight, rows) : sample_weight};
    options.reduction.batch_axis = batch_axis;
    if (batch_axis != axis) return softmax_cross_entropy(pred, target, options, inputs);
    options.reduction.kind = Reduction::Kind::mean;  // of all rows: the class axis of the losses has an extent of 1
    options.reduction.denominator = Reduction::Denominator::rows;
    return reshape(softmax_cross_entropy(pred, target, options, inputs), {1});
  }

  const DType dtype = pred.dtype() == DType::f64 ? DType::f64 : DType::f32;  // mul and mean take no 16-bit floats
  options.output.dtype = dtype;
  options.reduction.kind = Reduction::Kind::none;
  const Tensor weighted =
      mul(reshape(softmax_cross_entropy(pred, target, options), kept), as_dtype(sample_weight, dtype));
  const int64_t before = losses.product(0, batch_axis), after = losses.product(batch_axis + 1, losses.rank());
  return as_dtype(mean(reshape(weighted, {before, losses[batch_axis], after}), {0, 2}), pred.dtype());
}

}  // namespace xent::compat::mxnet
