// composer.loss.soft_cross_entropy.
#include <xent/nn/compat/composer.h>

#include "outcome.h"

namespace conformance {

using namespace xent;

namespace {

Outcome call(const Tensor& input, const Tensor& target, const Tensor& weight = {}, int64_t ignore_index = -100,
             const char* reduction = "mean") {
  return on_tape(input, [&] {
    return compat::composer::soft_cross_entropy(input, target, weight, {}, ignore_index, {}, reduction);
  });
}

}  // namespace

System composer() {
  const Tensor x = quarters(), both = matrix({{1, 0}, {0, 1}});
  return {
      "Composer",
      "composer.loss.soft_cross_entropy 0.32.1. With indices it is PyTorch's; with distributions a mean divides by the "
      "sum of the target.",
      {
          {"indices: all rows ignored, mean", "0/0: loss NaN, gradient 0", gives({nan}, {0, 0, 0, 0}),
           [=] {
             return call(x, labels({-100, -100}));
           }},
          {"indices: label -100", "ignored: the default", gives({ln4}, {-0.75, 0.75, 0, 0}),
           [=] {
             return call(x, labels({0, -100}));
           }},
          {"indices: label -1", "IndexError: Target -1 is out of bounds.",
           raises("LabelError", "label -1 is not in [0, 2)"),
           [=] {
             return call(x, labels({0, -1}));
           }},
          {"a target of zeros, mean", "ValueError: No targets have nonzero probability",
           raises("ValueError", "No targets have nonzero probability"),
           [=] {
             return call(x, matrix({{0, 0}, {0, 0}}));
           }},
          {"a target of zeros, sum", "loss 0, gradient 0", gives({0}, {0, 0, 0, 0}),
           [=] {
             return call(x, matrix({{0, 0}, {0, 0}}), {}, -100, "sum");
           }},
          {"a target that sums to less than 0", "ValueError: No targets have nonzero probability",
           raises("ValueError", "No targets have nonzero probability"),
           [=] {
             return call(x, matrix({{-1, 0}, {0, -1}}));
           }},
          {"one row of zeros", "the row does not count, and a warning", warns(gives({ln4}, {0, 0, 0.75, -0.75})),
           [=] {
             return call(x, matrix({{0, 0}, {0, 1}}));
           }},
          {"q sums to 2", "divided by 2", gives({(ln4 + ln43) / 2}, {-0.25, 0.25}),
           [] {
             return call(matrix({{0, ln3}}), matrix({{1, 1}}));
           }},
          {"a NaN in the target", "loss NaN", gives({nan}, {nan, nan}),
           [] {
             return call(matrix({{0, ln3}}), matrix({{nan, 1}}));
           }},
          {"weights 0 and 0", "not in the denominator: loss 0, gradient 0", gives({0}, {0, 0, 0, 0}),
           [=] {
             return call(x, both, vector({0, 0}));
           }},
          {"weights -2 and 1", "not in the denominator: divides by 2", gives({-ln4 / 2}, {0.75, -0.75, 0.375, -0.375}),
           [=] {
             return call(x, both, vector({-2, 1}));
           }},
          {"weight [1]", "stretched over the classes", gives({2 * ln4}, {-0.75, 0.75, 0.75, -0.75}),
           [=] { return call(x, both, vector({2})); }},
          {"weight [3] for two classes",
           "RuntimeError: The size of tensor a (2) must match the size of tensor b (3) ...",
           raises("RuntimeError", "The size of tensor a (2) must match the size of tensor b (3)"),
           [=] {
             return call(x, both, vector({1, 1, 1}));
           }},
          {"ignore_index 0", "a warning, and nothing else", warns(gives({ln4}, {-0.375, 0.375, 0.375, -0.375})),
           [=] { return call(x, both, {}, 0); }},
          {"N = 0, mean", "ValueError: No targets have nonzero probability",
           raises("ValueError", "No targets have nonzero probability"), [] { return call(matrix({}), matrix({})); }},
          {"N = 0, sum", "0", gives({0}, {}), [] { return call(matrix({}), matrix({}), {}, -100, "sum"); }},
          {"C = 1", "loss 0, gradient 0", gives({0}, {0, 0}),
           [] {
             return call(matrix({{5}, {7}}), matrix({{1}, {1}}));
           }},
          {"q 0 at a logit of -inf", "0 times inf: NaN", gives({nan}, {0, 0}),
           [] {
             return call(matrix({{-inf, 0}}), matrix({{0, 1}}));
           }},
          {"+inf", "NaN in the row", gives({nan}, {nan, nan}),
           [] {
             return call(matrix({{inf, 0}}), matrix({{1, 0}}));
           }},
          {"NaN in a row of zeros", "0 times NaN: NaN, and the warning of such a row",
           warns(gives({nan}, {nan, nan, 0.75, -0.75})),
           [] {
             return call(matrix({{nan, 0}, {ln3, 0}}), matrix({{0, 0}, {0, 1}}));
           }},
          {"f16: l = 60000 twice, sum", "120000 is beyond f16: loss inf", gives({inf}, {1, -1, 1, -1}),
           [] {
             const Tensor logits = matrix({{60000, 0}, {60000, 0}}, DType::f16);
             return call(logits, matrix({{0, 1}, {0, 1}}, DType::f16), {}, -100, "sum");
           }},
          {"target [2, 2, 1] for input [2, 2]", "RuntimeError: Unable to infer indices or one_hot. ...",
           raises("RuntimeError", "Unable to infer indices or one_hot"),
           [=] {
             return call(x, both.reshape({2, 2, 1}));
           }},
          {"reduction \"batchmean\"", "ValueError: batchmean reduction not supported.",
           raises("ValueError", "batchmean reduction not supported."),
           [=] { return call(x, both, {}, -100, "batchmean"); }},
          {"size_average=True", "AssertionError: size_average is deprecated",
           raises("AssertionError", "size_average is deprecated"),
           [=] { return on_tape(x, [&] { return compat::composer::soft_cross_entropy(x, both, {}, true); }); }},
      }};
}

}  // namespace conformance
