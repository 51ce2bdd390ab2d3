#include <xent/nn/compat/mxnet.h>

#include "golden_calls.h"

namespace golden {

namespace {

Results gluon(const Case& wanted) {
  wanted.args.only({"axis", "sparse_label", "from_logits", "weight", "batch_axis"});
  wanted.only_inputs({"pred", "label", "sample_weight"});
  const Arguments& args = wanted.args;
  const xent::compat::mxnet::SoftmaxCrossEntropyLoss loss(
      args.integer("axis", -1), args.flag("sparse_label", true), args.flag("from_logits", false),
      args.optional_number("weight"), args.integer("batch_axis", 0));
  return differentiate(wanted, [&]() -> Tensors {
    return {{"output", loss(wanted.input("pred"), wanted.input("label"), wanted.optional_input("sample_weight"))}};
  });
}

constexpr Api apis[] = {{"mxnet_gluon", gluon}};

}  // namespace

std::span<const Api> mxnet_apis() { return apis; }

}  // namespace golden
