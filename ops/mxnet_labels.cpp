// mxnet_labels:  y = x cut off at the point, as i64; where no int holds it, an error that a Step's replay raises too.
#include <xent/ops/mxnet_labels.h>

#include <algorithm>

#include <xent/core/dispatch.h>
#include <xent/core/on_cuda.h>
#include <xent/core/require.h>

namespace xent {

namespace {

Specs infer_labels(std::span<const Spec> in, const Attrs&) { return {{in[0].shape, DType::i64}}; }

}  // namespace

namespace cpu {

void mxnet_labels(const Call& call) {
  const int64_t count = call.in[0].shape.elements();
  dispatch(call.in[0].dtype, [&]<class T>() {
    const T* x = call.in[0].as<T>();
    const T* bad = std::find_if_not(x, x + count, fits_int<T>);
    if (bad != x + count) {
      fail<LabelError>(
          "SoftmaxCrossEntropyLoss: row {}: label {} fits no int, and what the original makes of it is "
          "undefined",
          bad - x, convert<double>(*bad));
    }
    std::transform(x, x + count, call.out[0].as<int64_t>(), convert<int64_t, T>);
  });
}

}  // namespace cpu

constinit const Op mxnet_labels_op = {
    .name = "mxnet_labels",
    .formula = "y = x cut off at the point",
    .infer = infer_labels,
    .forward = {cpu::mxnet_labels, ON_CUDA(mxnet_labels)},
};

}  // namespace xent
