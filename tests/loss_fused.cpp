// The ways to softmax_cross_entropy's gradient: handed on by the tape, scaled, in place, without a tape. All agree.
#include <cmath>
#include <cstring>

#include <doctest/doctest.h>

#include <xent/ops/all_ops.h>
#include <xent/ops/loss_call.h>
#include <xent/xent.h>

using namespace xent;

namespace {

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bytes = static_cast<size_t>(a.elements()) * size_of(a.dtype());
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw(), b.raw(), bytes) == 0;
}

// The gradient by way of the op's backward: an upstream that is given is never the implied one.
Tensor grad_by_backward(const Tensor& logits, const Tensor& target, const SoftmaxCrossEntropyOptions& options = {},
                        const LossInputs& inputs = {}) {
  Tape tape;
  tape.watch(logits);
  const SoftmaxCrossEntropyOutputs out = softmax_cross_entropy_outputs(logits, target, options, inputs);
  return tape.backward(out.loss, {.upstream = Tensor::ones(out.loss.shape(), out.loss.dtype())})[logits];
}

const Tensor labels = label_sample({6}, 5, DType::i64, 2);

}  // namespace

TEST_CASE("the gradient that forward wrote has the bits of the one that backward computes, for every dtype") {
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16})
    for (const auto kind : {Reduction::Kind::mean, Reduction::Kind::sum}) {
      CAPTURE(name(dtype));
      const SoftmaxCrossEntropyOptions options{.target = {.ignore = 1, .smoothing = 0.1}, .reduction = {.kind = kind}};
      const Tensor logits = normal_sample({6, 5}, dtype, 1);
      Tape tape;
      tape.watch(logits);
      const Tensor loss = softmax_cross_entropy(logits, labels, options);
      const Tensor handed_on = tape.backward(loss)[logits];
      const Tensor computed = grad_by_backward(logits, labels, options);
      CHECK(same_bits(handed_on, computed));
      const LossAndGrad both = softmax_cross_entropy_with_grad(logits, labels, options);
      CHECK(same_bits(both.grad, computed));
      CHECK(same_bits(both.loss, loss));
    }
}

TEST_CASE("the tape runs no backward kernel for a loss that is the root, and one for a loss that is not") {
  const auto backward_launches = [](double factor) {
    const Tensor logits = normal_sample({6, 5}, DType::f32, 1);
    Tape tape;
    tape.watch(logits);
    const Tensor loss = softmax_cross_entropy(logits, labels);
    const Tensor root = factor == 1 ? loss : scale(loss, factor);
    Profile profile;
    tape.backward(root);
    int64_t launches = 0;
    for (const Profile::Row& row : profile.rows())
      if (row.op == &softmax_cross_entropy_op) launches += row.launches;
    return launches;
  };
  CHECK(backward_launches(1) == 0);
  CHECK(backward_launches(2) == 1);
}

TEST_CASE("a ready gradient is handed on only if no other input wants one") {
  const Tensor logits = normal_sample({6, 5}, DType::f32, 1), weights = positive_sample({6}, DType::f32, 3), none;
  const auto gradients = [&](bool of_logits, bool of_weights, bool ready) {
    Tape tape;
    if (of_logits) tape.watch(logits);
    if (of_weights) tape.watch(weights);
    LossAttrs attrs{.options = {.axis = 1}, .with_grad = ready};
    const Tensors out = apply(softmax_cross_entropy_op, {logits, labels, none, weights, none, none, none}, attrs);
    return tape.backward(out[loss_out::loss]);
  };
  for (const bool of_logits : {false, true}) {
    const Gradients grads = gradients(of_logits, true, true), want = gradients(of_logits, true, false);
    CHECK(same_bits(grads[weights], want[weights]));
    if (of_logits) CHECK(same_bits(grads[logits], want[logits]));
  }
}

TEST_CASE("a scaled loss scales the gradient, by 0 as well") {
  for (const DType dtype : {DType::f32, DType::f16})
    for (const double factor : {3.0, 0.0, -0.5}) {
      const Tensor logits = normal_sample({6, 5}, dtype, 1);
      Tape tape;
      tape.watch(logits);
      const Tensor gradient =
          cast(tape.backward(scale(softmax_cross_entropy(logits, labels), factor))[logits], DType::f64);
      const Tensor one = cast(grad_by_backward(logits, labels), DType::f64);
      for (int64_t i = 0; i < one.elements(); ++i)
        CHECK(std::abs(gradient.data<double>()[i] - factor * one.data<double>()[i]) <
              (dtype == DType::f32 ? 1e-7 : 1e-3));
    }
}

TEST_CASE("ignored rows keep a gradient of +0 whatever the loss is multiplied by") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const double factor : {-1.0, double{INFINITY}, double{NAN}}) {
      CAPTURE(dtype);
      CAPTURE(factor);
      const Tensor logits = normal_sample({2, 5}, dtype, 1), target = Tensor::from<int64_t>({3, -100}, {2});
      Tape tape;
      tape.watch(logits);
      const Tensor loss = softmax_cross_entropy(logits, target, {.target = {.ignore = -100}});
      const Tensor upstream = Tensor::full({}, factor, loss.dtype());
      const Tensor grad = tape.backward(loss, {.upstream = upstream})[logits];
      CHECK(same_bits(slice_rows(grad, 1, 2), Tensor::zeros({1, 5}, dtype)));
      CHECK_FALSE(same_bits(slice_rows(grad, 0, 1), Tensor::zeros({1, 5}, dtype)));
    }
}

TEST_CASE("gradients of 16 bits do not vanish under a loss scale, which is applied before they are rounded") {
  const Tensor logits = Tensor::zeros({4096, 2}, DType::f16), target = Tensor::zeros({4096}, DType::u8);
  Tape tape;
  tape.watch(logits);
  const Tensor tiny = scale(softmax_cross_entropy(logits, target), 1e-6);  // 1.2e-10 each: 0 in f16
  const Tensor scaled = tape.backward(scale(tiny, 1e6 * 1024))[logits];
  CHECK(cast(scaled, DType::f32).data<float>()[1] == 0.125f);  // 1024 / 2 / 4096
}

TEST_CASE("backward twice on a retained tape gives the same gradient, and the first one is nobody else's") {
  const Tensor logits = normal_sample({6, 5}, DType::f32, 1);
  Tape tape;
  tape.watch(logits);
  const Tensor loss = softmax_cross_entropy(logits, labels);
  Tensor first = tape.backward(loss, {.retain = true})[logits];
  const Tensor copy = first.clone();
  first.fill(7);
  CHECK(same_bits(tape.backward(loss)[logits], copy));
}

TEST_CASE("logits that are used elsewhere as well get the sum of both gradients") {
  const Tensor logits = normal_sample({6, 5}, DType::f32, 1);
  Tape tape;
  tape.watch(logits);
  const Tensor loss = softmax_cross_entropy(logits, labels) + sum(logits);
  const Tensor gradient = tape.backward(loss)[logits], alone = grad_by_backward(logits, labels);
  for (int64_t i = 0; i < alone.elements(); ++i)
    CHECK(std::abs(gradient.data<float>()[i] - alone.data<float>()[i] - 1) < 1e-6);
}

TEST_CASE("the gradient takes the place of logits that nobody else holds, and of no others") {
  const Tensor kept = normal_sample({6, 5}, DType::f32, 1), copy = kept.clone();
  const LossAndGrad apart = softmax_cross_entropy_with_grad(kept, labels);
  CHECK(same_bits(kept, copy));
  CHECK(apart.grad.raw() != kept.raw());

  Tensor temporary = kept.clone();
  const void* place = temporary.raw();
  const LossAndGrad in_place = softmax_cross_entropy_with_grad(std::move(temporary), labels);
  CHECK(in_place.grad.raw() == place);
  CHECK(same_bits(in_place.grad, apart.grad));
  CHECK(same_bits(in_place.loss, apart.loss));

  Tensor whole = normal_sample({12, 5}, DType::f32, 1);
  const Tensor whole_copy = whole.clone();
  softmax_cross_entropy_with_grad(whole.slice(0, 6), labels);  // a view: its bytes are the whole's
  CHECK(same_bits(whole, whole_copy));

  Tensor parameter = kept.clone().set_requires_grad();
  const void* parameter_place = parameter.raw();
  CHECK(softmax_cross_entropy_with_grad(std::move(parameter), labels).grad.raw() != parameter_place);
}

TEST_CASE("in place, with a distribution, smoothing, weights and an addend, gives the bits of apart") {
  const Tensor logits = normal_sample({6, 5}, DType::f16, 1), target = softmax(normal_sample({6, 5}, DType::f32, 3));
  const SoftmaxCrossEntropyOptions options{.target = {.smoothing = 0.2}, .scale = 3};
  const LossInputs inputs{.class_weights = positive_sample({5}, DType::f32, 4),
                          .element_weights = positive_sample({6}, DType::f16, 5),
                          .grad_addend = normal_sample({6, 5}, DType::f32, 6)};
  const Tensor apart = softmax_cross_entropy_with_grad(logits, target, options, inputs).grad;
  CHECK(same_bits(softmax_cross_entropy_with_grad(logits.clone(), target, options, inputs).grad, apart));
  CHECK(same_bits(grad_by_backward(logits, target, options, inputs), apart));
}

TEST_CASE("the gradient without a tape, from the saved pairs, has the bits of the tape's") {
  const Tensor logits = normal_sample({2, 5, 3}, DType::f32, 1), target = label_sample({2, 3}, 5, DType::u8, 2);
  SoftmaxCrossEntropyOptions options{.axis = 1, .target = {.ignore = 2}};
  for (const auto kind :
       {Reduction::Kind::none, Reduction::Kind::sum, Reduction::Kind::mean, Reduction::Kind::sample_mean}) {
    options.reduction.kind = kind;
    const auto out = softmax_cross_entropy_outputs(logits, target, options);
    const Tensor ones = Tensor::ones(out.loss.shape());
    CHECK(same_bits(softmax_cross_entropy_grad(ones, logits, target, out.statistics, options),
                    grad_by_backward(logits, target, options)));
  }
}

TEST_CASE("log-probabilities stand for logits with pairs of (0, 0)") {
  const Tensor logits = normal_sample({6, 5}, DType::f64, 1);
  const auto out = softmax_cross_entropy_outputs(logits, labels, {.output = {.log_probs = true}});
  const Tensor from_pairs = softmax_cross_entropy_grad(Tensor::scalar(2, DType::f64), logits, labels, out.statistics);
  const Tensor from_log_probs = softmax_cross_entropy_grad(Tensor::scalar(2, DType::f64), out.log_probs, labels, {});
  for (int64_t i = 0; i < 30; ++i)
    CHECK(std::abs(from_pairs.data<double>()[i] - from_log_probs.data<double>()[i]) < 1e-15);
}

TEST_CASE("log-probabilities are differentiable, together with the loss") {
  const GradientReport report = check_gradients(
      [](std::span<const Tensor> in) {
        const SoftmaxCrossEntropyOptions options{.target = {.ignore = 3}, .output = {.log_probs = true}};
        const auto out = softmax_cross_entropy_outputs(in[0], labels, options);
        return sum(tanh(out.log_probs)) + scale(out.loss, 2);
      },
      {normal_sample({6, 5}, DType::f64, 1)});
  CHECK_MESSAGE(report, report.message);
}

TEST_CASE("micro-batches with the whole batch's normalizer add up to its loss and gradient") {
  const Tensor logits = normal_sample({12, 5}, DType::f64, 1), target = label_sample({12}, 5, DType::i64, 2);
  const Tensor weights = positive_sample({5}, DType::f64, 3);
  const SoftmaxCrossEntropyOptions options{.target = {.ignore = 1, .smoothing = 0.1}};
  const auto rows = [](const Tensor& x, int64_t begin, int64_t end) { return x.slice(begin, end).clone(); };
  const auto denominator = [&](int64_t begin, int64_t end) {
    return softmax_cross_entropy_denominator({end - begin, 5}, rows(target, begin, end), options,
                                             {.class_weights = weights});
  };
  const Tensor normalizer = denominator(0, 7) + denominator(7, 12);
  const auto whole = softmax_cross_entropy_outputs(logits, target, options, {.class_weights = weights});
  CHECK(std::abs(normalizer.item() - whole.denominator.item()) < 1e-13);

  const Tensor expected = grad_by_backward(logits, target, options, {.class_weights = weights});
  double loss = 0;
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 7}, {7, 12}}) {
    const LossAndGrad part =
        softmax_cross_entropy_with_grad(rows(logits, begin, end), rows(target, begin, end), options,
                                        {.class_weights = weights, .normalizer = normalizer});
    loss += part.loss.item();
    for (int64_t i = begin * 5; i < end * 5; ++i)
      CHECK(std::abs(part.grad.data<double>()[i - begin * 5] - expected.data<double>()[i]) < 1e-14);
  }
  CHECK(std::abs(loss - whole.loss.item()) < 1e-14);
}

TEST_CASE("a gradient written by forward is replayed with the bits of the eager one") {
  const auto train = [](bool replay) {
    const Tensor x = normal_sample({8, 4}, DType::f32, 1), y = label_sample({8}, 3, DType::i64, 2);
    Tensor weight = normal_sample({4, 3}, DType::f32, 3).set_requires_grad();
    const Tensor rate = Tensor::scalar(0.5);
    const auto function = [&](const Tensor& in) {
      Tape tape;
      const Tensor loss = softmax_cross_entropy(matmul(in, weight), y);
      sgd_step(weight, tape.backward(loss)[weight], {}, rate);
      return loss;
    };
    Step step(function);
    for (int i = 0; i < 6; ++i) replay ? step(x) : function(x);
    return weight;
  };
  CHECK(same_bits(train(true), train(false)));
}
