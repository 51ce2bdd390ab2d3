// torch.nn.functional.cross_entropy.
#include <xent/nn/compat/torch.h>

#include "outcome.h"

namespace conformance {

using namespace xent;

namespace {

struct Arguments {
  Tensor weight = {};
  int64_t ignore_index = -100;
  const char* reduction = "mean";
  double label_smoothing = 0;
};

Outcome call(const Tensor& input, const Tensor& target, const Arguments& a = {}) {
  return on_tape(input, [&] {
    return compat::torch::cross_entropy(input, target, a.weight, {}, a.ignore_index, {}, a.reduction,
                                        a.label_smoothing);
  });
}

}  // namespace

System torch() {
  const Tensor x = quarters();
  return {
      "PyTorch",
      "torch.nn.functional.cross_entropy 2.x on the CPU, with class indices and with probabilities.",
      {
          {"all rows ignored, mean", "0/0: loss NaN, gradient 0", gives({nan}, {0, 0, 0, 0}),
           [=] {
             return call(x, labels({-100, -100}));
           }},
          {"all rows ignored, sum", "loss 0, gradient 0", gives({0}, {0, 0, 0, 0}),
           [=] {
             return call(x, labels({-100, -100}), {.reduction = "sum"});
           }},
          {"labels of weight 0 only", "0/0: loss NaN, gradient NaN", gives({nan}, {nan, nan, nan, nan}),
           [=] {
             return call(x, labels({0, 0}), {.weight = vector({0, 1})});
           }},
          {"weights -1 and 1 that cancel", "-ln 3 by 0: loss -inf, gradient infinite",
           gives({-inf}, {inf, -inf, inf, -inf}),
           [] {
             return call(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), {.weight = vector({-1, 1})});
           }},
          {"a total weight of -1", "divides by -1", gives({2 * ln4 - ln43}, {-1.5, 1.5, -0.25, 0.25}),
           [] {
             return call(matrix({{0, ln3}, {0, ln3}}), labels({0, 1}), {.weight = vector({-2, 1})});
           }},
          {"label -1", "IndexError: Target -1 is out of bounds.", raises("LabelError", "label -1 is not in [0, 2)"),
           [=] {
             return call(x, labels({0, -1}));
           }},
          {"label -100", "ignored: the default", gives({ln4}, {-0.75, 0.75, 0, 0}),
           [=] {
             return call(x, labels({0, -100}));
           }},
          {"label 2 of two classes", "IndexError: Target 2 is out of bounds.",
           raises("LabelError", "label 2 is not in [0, 2)"),
           [=] {
             return call(x, labels({0, 2}));
           }},
          {"ignore_index 0, a class", "its rows do not count", gives({ln4}, {0, 0, 0.75, -0.75}),
           [=] {
             return call(x, labels({0, 1}), {.ignore_index = 0});
           }},
          {"N = 0, mean", "0/0: NaN", gives({nan}, {}), [] { return call(matrix({}), labels({})); }},
          {"N = 0, sum", "0", gives({0}, {}), [] { return call(matrix({}), labels({}), {.reduction = "sum"}); }},
          {"C = 1", "loss 0, gradient 0", gives({0}, {0, 0}),
           [] {
             return call(matrix({{5}, {7}}), labels({0, 0}));
           }},
          {"-inf at the label", "loss inf, gradient finite", gives({inf}, {-1, 1}),
           [] {
             return call(matrix({{-inf, 0}}), labels({0}));
           }},
          {"+inf", "NaN in the row", gives({nan}, {nan, nan}),
           [] {
             return call(matrix({{inf, 0}}), labels({0}));
           }},
          {"NaN", "loss NaN; gradient NaN in the row only", gives({nan}, {nan, nan, 0.125, -0.125}),
           [] {
             return call(matrix({{nan, 0}, {0, ln3}}), labels({0, 1}));
           }},
          {"NaN in an ignored row", "loss without it; gradient NaN in the row", differs({ln43}, {0, 0, 0.25, -0.25}),
           [] {
             return call(matrix({{nan, 0}, {0, ln3}}), labels({-100, 1}));
           }},
          {"label_smoothing 1.5", "RuntimeError: label_smoothing must be between 0.0 and 1.0",
           raises("RuntimeError", "label_smoothing must be between 0.0 and 1.0. Got: 1.5"),
           [=] {
             return call(x, labels({0, 1}), {.label_smoothing = 1.5});
           }},
          {"label_smoothing -0.5", "taken for 0", gives({ln4}, {-0.375, 0.375, 0.375, -0.375}),
           [=] {
             return call(x, labels({0, 1}), {.label_smoothing = -0.5});
           }},
          {"label_smoothing 0.2, a logit of -inf", "loss inf", gives({inf}, {-0.1, 0.1}),
           [] {
             return call(matrix({{-inf, 0}}), labels({1}), {.label_smoothing = 0.2});
           }},
          {"weight [3] for two classes", "RuntimeError: weight tensor should be defined either for all 2 classes ...",
           raises("RuntimeError", "weight tensor should be defined either for all 2 classes"),
           [=] {
             return call(x, labels({0, 1}), {.weight = vector({1, 1, 1})});
           }},
          {"target [3] for two rows", "ValueError: Expected input batch_size (2) to match target batch_size (3).",
           raises("ValueError", "Expected input batch_size (2) to match target batch_size (3)."),
           [=] {
             return call(x, labels({0, 1, 0}));
           }},
          {"reduction \"Mean\"", "ValueError: Mean is not a valid value for reduction",
           raises("ValueError", "Mean is not a valid value for reduction"),
           [=] {
             return call(x, labels({0, 1}), {.reduction = "Mean"});
           }},
          {"reduce=False", "warns; reduction \"none\"", warns(gives({ln4, ln4}, {-0.75, 0.75, 0.75, -0.75})),
           [=] {
             return on_tape(x, [&] { return compat::torch::cross_entropy(x, labels({0, 1}), {}, {}, -100, false); });
           }},
          {"f16: l = 60000 twice, sum", "120000 is beyond f16: loss inf", gives({inf}, {1, -1, 1, -1}),
           [] {
             return call(matrix({{60000, 0}, {60000, 0}}, DType::f16), labels({1, 1}), {.reduction = "sum"});
           }},
          {"probabilities: q sums to 2", "gradient (sum q) p - q, divided by the rows",
           gives({ln4 + ln43}, {-0.5, 0.5}),
           [] {
             return call(matrix({{0, ln3}}), matrix({{1, 1}}));
           }},
          {"probabilities: a row of zeros", "loss 0, but the row counts", gives({ln4 / 2}, {0, 0, 0.375, -0.375}),
           [=] {
             return call(x, matrix({{0, 0}, {0, 1}}));
           }},
          {"probabilities: q 0 at a logit of -inf", "0 times inf: NaN", gives({nan}, {0, 0}),
           [] {
             return call(matrix({{-inf, 0}}), matrix({{0, 1}}));
           }},
          {"probabilities: ignore_index 0", "RuntimeError: ignore_index is not supported for floating point target",
           raises("RuntimeError", "ignore_index is not supported for floating point target"),
           [=] {
             return call(x, matrix({{1, 0}, {0, 1}}), {.ignore_index = 0});
           }},
          {"probabilities: i64", "RuntimeError: Expected floating point type for target ..., got Long",
           raises("RuntimeError", "Expected floating point type for target with class probabilities, got Long"),
           [=] {
             return call(x, labels({1, 0, 0, 1}).reshape({2, 2}));
           }},
      }};
}

}  // namespace conformance
