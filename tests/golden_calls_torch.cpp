#include <xent/nn/compat/composer.h>
#include <xent/nn/compat/torch.h>

#include "golden_calls.h"

namespace golden {

namespace {

constexpr int64_t ignore_nothing = -100;  // the default of both

Results cross_entropy(const Case& wanted) {
  wanted.args.only({"size_average", "ignore_index", "reduce", "reduction", "label_smoothing"});
  wanted.only_inputs({"input", "target", "weight"});
  const Arguments& args = wanted.args;
  return differentiate(wanted, [&]() -> Tensors {
    return {{"output",
             xent::compat::torch::cross_entropy(
                 wanted.input("input"), wanted.input("target"), wanted.optional_input("weight"),
                 args.optional_flag("size_average"), args.integer("ignore_index", ignore_nothing),
                 args.optional_flag("reduce"), args.text("reduction", "mean"), args.number("label_smoothing", 0))}};
  });
}

Results soft_cross_entropy(const Case& wanted) {
  wanted.args.only({"size_average", "ignore_index", "reduce", "reduction"});
  wanted.only_inputs({"input", "target", "weight"});
  const Arguments& args = wanted.args;
  return differentiate(wanted, [&]() -> Tensors {
    return {{"output", xent::compat::composer::soft_cross_entropy(
                           wanted.input("input"), wanted.input("target"), wanted.optional_input("weight"),
                           args.optional_flag("size_average"), args.integer("ignore_index", ignore_nothing),
                           args.optional_flag("reduce"), args.text("reduction", "mean"))}};
  });
}

constexpr Api apis[] = {{"torch_cross_entropy", cross_entropy}, {"composer_soft_cross_entropy", soft_cross_entropy}};

}  // namespace

std::span<const Api> torch_apis() { return apis; }

}  // namespace golden
