// The samples of softmax_cross_entropy and its companions: every option that changes a formula, once.
#include <xent/ops/all_ops.h>
#include <xent/ops/loss_call.h>
#include <xent/ops/loss_rules.h>
#include <xent/ops/samples.h>

namespace xent {

Samples loss_samples(DType dtype) {
  using Kind = Reduction::Kind;
  using Options = SoftmaxCrossEntropyOptions;
  const auto with = [](Kind kind, Options options = {}) {
    options.axis = 1;
    options.reduction.kind = kind;
    return LossAttrs{options};
  };
  const auto logits = [&](const Shape& shape, uint64_t seed) { return normal_sample(shape, dtype, seed); };
  const auto labels = [](const Shape& shape, DType type, uint64_t seed) { return label_sample(shape, 7, type, seed); };
  const Tensor weights = positive_sample({7}, dtype, 9), elements = positive_sample({5}, dtype, 12), none;
  const Tensor dense = positive_sample({5, 7}, dtype, 13), ignored = Tensor::full({}, 3, DType::i64);
  const Tensor normalizer = Tensor::full({}, 2.5, DType::f64);
  const Options smooth{.target = {.smoothing = 0.1}};
  Options fused = with(Kind::mean).options;
  Options by_elements = smooth, by_mass{.reduction = {.denominator = Reduction::Denominator::target_mass}};
  by_elements.reduction.denominator = Reduction::Denominator::element_weights;
  Options samples{.scale = 0.5};
  return {
      {{logits({5, 7}, 1), labels({5}, DType::i64, 2), none, none, none, none, none}, with(Kind::mean)},
      {{logits({5, 7}, 3), labels({5}, DType::i32, 4), weights, none, none, ignored, none}, with(Kind::mean)},
      {{logits({5, 7}, 5), labels({5}, DType::u8, 6), weights, elements, none, none, none}, with(Kind::none, smooth)},
      {{logits({2, 7, 3}, 7), labels({2, 3}, DType::i64, 8), weights, none, none, none, none}, with(Kind::sum)},
      {{logits({2, 7, 3}, 14), labels({2, 3}, DType::i64, 15), none, none, none, none, none},
       with(Kind::sample_mean, samples)},
      {{logits({5, 7}, 16), labels({5}, DType::i64, 17), weights, elements, none, none, none},
       with(Kind::mean, smooth)},
      {{logits({5, 7}, 18), labels({5}, DType::i64, 19), none, elements, none, none, none},
       with(Kind::mean, by_elements)},
      {{logits({5, 7}, 20), dense, weights, elements, none, none, none}, with(Kind::mean, smooth)},
      {{logits({5, 7}, 21), dense, weights, none, none, none, none}, with(Kind::mean, by_mass)},
      {{logits({5, 7}, 22), labels({5}, DType::i64, 23), none, none, normalizer, none, none}, with(Kind::mean)},
      {{logits({5, 7}, 24), labels({5}, DType::i64, 25), weights, none, none, none, none}, LossAttrs{fused, true}},
      {{normal_sample({300, 100}, dtype, 10), label_sample({300}, 100, DType::i64, 11), none, none, none, none, none},
       with(Kind::mean)}};  // several chunks
}

Samples loss_with_grad_samples(DType dtype) {
  Samples samples = loss_samples(dtype);
  for (Sample& sample : samples) {
    LossAttrs attrs = sample.attrs.as<LossAttrs>();
    attrs.with_grad = true;
    sample.attrs = attrs;
  }
  return samples;
}

// Half of them with the pairs of a forward pass, half with log-probabilities: any numbers will do.
Samples loss_grad_samples(DType dtype) {
  Samples samples = loss_samples(dtype);
  for (size_t i = 0; i < samples.size(); ++i) {
    auto& [inputs, attrs] = samples[i];
    const Tensors forward = apply(softmax_cross_entropy_op, inputs, attrs);
    inputs.push_back(normal_sample(forward[loss_out::loss].shape(), dtype, 30 + i));
    inputs.push_back(i % 2 == 0 ? forward[loss_out::statistics] : Tensor());
  }
  return samples;
}

Samples loss_denominator_samples(DType dtype) {
  Samples samples = loss_samples(dtype);
  for (auto& [inputs, attrs] : samples) {
    LossAttrs with_classes = attrs.as<LossAttrs>();
    with_classes.classes = inputs[loss_in::logits].shape()[with_classes.options.axis];
    inputs[loss_in::logits] = Tensor();
    attrs = with_classes;
  }
  return samples;
}

}  // namespace xent
