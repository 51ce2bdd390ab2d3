// The fast paths of softmax_cross_entropy, rows of adjacent logits with labels, for every number of classes that takes
// another way through them. Run once with every set of instructions.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/parallel.h>
#include <xent/ops/samples.h>
#include <xent/xent.h>

#include "machine_has_it.h"

using namespace xent;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
const std::vector<int64_t> class_counts = {1,    2,    3,    7,     8,     9,      10,    15,  16,   17,
                                           31,   32,   33,   63,    64,    65,     97,    100, 1000, 1024,
                                           1025, 1057, 2100, 32770, 33001, 131105, 131200};  // the last: more than f32
                                                                                             // exponentials are kept of
constexpr DType types[] = {DType::f32, DType::f16, DType::bf16};

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.elements()) * size_of(a.dtype())) == 0;
}

// Logits of which some rows are sure of their label, some of another class, and some of none.
Tensor some_logits(int64_t rows, int64_t classes, DType dtype, uint64_t seed) {
  const Tensor spread = Tensor::from(std::vector<double>{0.01, 1, 5, 20}, {4});
  Tensor logits = normal_sample({rows, classes}, DType::f64, seed);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < classes; ++c)
      logits.mutable_data<double>()[r * classes + c] *= spread.data<double>()[r % 4];
  return cast(logits, dtype);
}

Tensor some_labels(const Tensor& logits, uint64_t seed) {
  const int64_t rows = logits.shape()[0];
  Tensor labels = label_sample({rows}, logits.shape()[1], DType::i64, seed);
  const auto largest = cast(argmax(cast(logits, DType::f32), 1), DType::i64).to_vector<int64_t>();
  for (int64_t r = 0; r < rows; r += 3) labels.mutable_data<int64_t>()[r] = largest[static_cast<size_t>(r)];
  return labels;
}

// What one rounding to the type may change.
double rounding(DType dtype, double value) {
  const double unit = dtype == DType::f32 ? 0x1p-24 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  return unit * std::max(std::abs(value), dtype == DType::f16 ? 0x1p-14 : 0x1p-126);
}

}  // namespace

TEST_CASE("losses and gradients of every width are within their bounds, and in sure rows relative to 1 - p") {
  if (!machine_has_it()) return;
  constexpr double u = 0x1p-24, of_sum = 0x1p-52;  // the sum of exponentials is in f64
  for (const DType dtype : types)
    for (const int64_t classes : class_counts) {
      CAPTURE(name(dtype));
      CAPTURE(classes);
      const int64_t rows = classes > 100'000 ? 3 : 19;
      const Tensor logits = some_logits(rows, classes, dtype, 1), labels = some_labels(logits, 2);
      const LossAndGrad got =
          softmax_cross_entropy_with_grad(logits, labels, {.reduction = {.kind = Reduction::Kind::none}});
      const auto x = cast(logits, DType::f64).to_vector<double>(), dx = cast(got.grad, DType::f64).to_vector<double>();
      double worst_loss = 0, worst_grad = 0;
      for (int64_t r = 0; r < rows; ++r) {
        const double* row = x.data() + r * classes;
        const int64_t at = std::max_element(row, row + classes) - row, label = labels.data<int64_t>()[r];
        long double rest = 0;
        for (int64_t c = 0; c < classes; ++c)
          if (c != at) rest += std::exp(static_cast<long double>(row[c]) - row[at]);
        const long double log_sum = std::log1p(rest);
        const auto exact = static_cast<double>(log_sum - (static_cast<long double>(row[label]) - row[at]));
        const double base = std::log(static_cast<double>(classes)) + 2;
        const bool sure = exact < 0.1;  // then its logarithm is about that of its largest term, whose error it has
        const double relative = sure ? 4 + 2 * std::abs(std::log(exact + of_sum)) : 0;
        const double allowed = u * (sure ? relative * exact : base + 3 * exact) + of_sum;
        worst_loss = std::max(worst_loss, std::abs(static_cast<double>(got.loss.data<float>()[r]) - exact) / allowed);
        for (int64_t c = 0; c < classes; ++c) {
          const auto log_p = static_cast<double>(static_cast<long double>(row[c]) - row[at] - log_sum);
          const double p = std::exp(log_p), want = c == label ? std::expm1(log_p) : p;
          const double bound = u * (p * (base + 2 * std::abs(log_p)) + 4 * std::abs(want)) +
                               rounding(DType::f32, want) + rounding(dtype, want) + of_sum;
          worst_grad = std::max(worst_grad, std::abs(dx[static_cast<size_t>(r * classes + c)] - want) / bound);
          if (c == label && sure)
            worst_grad = std::max(worst_grad, std::abs(dx[static_cast<size_t>(r * classes + c)] - want) /
                                                  (relative * u * std::abs(want) + rounding(dtype, want) + of_sum));
        }
      }
      CHECK(worst_loss <= 1);
      CHECK(worst_grad <= 1);
    }
}

TEST_CASE("the gradient has the same bits in place, apart, from the tape's backward and from the saved pairs") {
  if (!machine_has_it()) return;
  for (const DType dtype : types)
    for (const int64_t classes : class_counts) {
      CAPTURE(name(dtype));
      CAPTURE(classes);
      const int64_t rows = classes > 100'000 ? 3 : 37;
      const Tensor logits = some_logits(rows, classes, dtype, 3), labels = some_labels(logits, 4);
      const SoftmaxCrossEntropyOptions options{.target = {.ignore = 1}};
      const LossInputs inputs{.class_weights = positive_sample({classes}, DType::f32, 5)};
      const LossAndGrad apart = softmax_cross_entropy_with_grad(logits, labels, options, inputs);
      const LossAndGrad in_place = softmax_cross_entropy_with_grad(logits.clone(), labels, options, inputs);
      CHECK(same_bits(in_place.grad, apart.grad));
      CHECK(same_bits(in_place.loss, apart.loss));
      Tape tape;
      tape.watch(logits);
      const auto out = softmax_cross_entropy_outputs(logits, labels, options, inputs);
      CHECK(same_bits(out.loss, apart.loss));
      CHECK(same_bits(tape.backward(out.loss, {.upstream = Tensor::ones({})})[logits], apart.grad));
      CHECK(same_bits(softmax_cross_entropy_grad(Tensor::ones({}), logits, labels, out.statistics, options, inputs),
                      apart.grad));
    }
}

TEST_CASE("a row's bits depend on nothing but the row: not on where it lies, its neighbours or the threads") {
  if (!machine_has_it()) return;
  const int before = threads();
  const SoftmaxCrossEntropyOptions none{.reduction = {.kind = Reduction::Kind::none}};
  for (const DType dtype : types)
    for (const int64_t classes : {3, 10, 16, 17, 65, 1057}) {
      CAPTURE(name(dtype));
      CAPTURE(classes);
      const Tensor logits = some_logits(5003, classes, dtype, 6), labels = some_labels(logits, 7);
      set_threads(1);
      const LossAndGrad all = softmax_cross_entropy_with_grad(logits, labels, none);
      const LossAndGrad part = softmax_cross_entropy_with_grad(logits.slice(5, 4001), labels.slice(5, 4001), none);
      CHECK(same_bits(part.loss, all.loss.slice(5, 4001)));
      CHECK(same_bits(part.grad, all.grad.slice(5, 4001)));
      for (const DType type : {DType::u8, DType::i32, DType::i64}) {  // rows that all weigh the same go in runs
        if (type == DType::u8 && classes > 256) continue;
        const LossAndGrad sum =
            softmax_cross_entropy_with_grad(logits, cast(labels, type), {.reduction = {.kind = Reduction::Kind::sum}});
        CHECK(same_bits(sum.grad, all.grad));
        const auto losses = cast(all.loss, DType::f64).to_vector<double>();
        const double total = std::accumulate(losses.begin(), losses.end(), 0.0);
        CHECK(sum.loss.item<double>() == doctest::Approx(total).epsilon(dtype == DType::f32 ? 1e-6 : 1e-2));
      }
      const LossAndGrad mean = softmax_cross_entropy_with_grad(logits, labels);
      set_threads(3);
      const LossAndGrad again = softmax_cross_entropy_with_grad(logits, labels);
      CHECK(same_bits(again.loss, mean.loss));
      CHECK(same_bits(again.grad, mean.grad));
    }
  set_threads(before);
}

TEST_CASE("a gradient so large that it is written past the caches has the bits of one written over the logits") {
  if (!machine_has_it()) return;
  for (const DType dtype : types) {
    CAPTURE(name(dtype));
    const int64_t classes = 34016, rows = (1 << 25) / (classes * static_cast<int64_t>(size_of(dtype))) + 1;
    const Tensor first = some_logits(1, classes, dtype, 11), labels = label_sample({rows}, classes, DType::i32, 12);
    Tensor logits = Tensor::empty({rows, classes}, dtype);
    for (int64_t r = 0; r < rows; ++r) logits.slice(r, r + 1).copy_from(first);
    const LossAndGrad apart = softmax_cross_entropy_with_grad(logits, labels);
    const LossAndGrad in_place = softmax_cross_entropy_with_grad(std::move(logits), labels);
    CHECK(same_bits(apart.grad, in_place.grad));
    CHECK(same_bits(apart.loss, in_place.loss));
  }
}

TEST_CASE("NaN and infinities stay in their row, masked classes get +0 whatever the scale, ignored rows are not read") {
  if (!machine_has_it()) return;
  for (const DType dtype : types)
    for (const int64_t classes : {3, 16, 17, 64, 100, 1057}) {
      CAPTURE(name(dtype));
      CAPTURE(classes);
      Tensor x = normal_sample({40, classes}, DType::f64, 8), labels = Tensor::zeros({40}, DType::i64);
      const auto at = [&](int64_t r, int64_t c) -> double& { return x.mutable_data<double>()[r * classes + c]; };
      const int64_t last = classes - 1;
      at(1, last) = std::nan("");
      at(2, last) = inf;
      at(3, last) = -inf;  // masked
      at(4, 0) = -inf;     // the label is masked
      for (int64_t c = 0; c < classes; ++c) at(5, c) = -inf;
      at(6, last) = std::nan("");  // ignored
      labels.mutable_data<int64_t>()[6] = -100;
      at(7, 0) = 200;  // sure
      const SoftmaxCrossEntropyOptions options{
          .target = {.ignore = -100}, .reduction = {.kind = Reduction::Kind::none}, .scale = 16384};
      const LossAndGrad both = softmax_cross_entropy_with_grad(cast(x, dtype), labels, options);
      const auto loss = both.loss.to_vector<float>(), grad = cast(both.grad, DType::f32).to_vector<float>();
      const auto of = [&](int64_t r, int64_t c) { return grad[static_cast<size_t>(r * classes + c)]; };
      for (const int64_t r : {1, 2, 5}) {
        CHECK(std::isnan(loss[static_cast<size_t>(r)]));
        for (int64_t c = 0; c < classes; ++c) CHECK(std::isnan(of(r, c)));
      }
      CHECK((of(3, last) == 0 && !std::signbit(of(3, last))));
      CHECK(std::isfinite(loss[3]));
      CHECK(loss[4] == inf);
      CHECK(of(4, 0) == -16384);
      for (int64_t c = 0; c < classes; ++c) CHECK((of(6, c) == 0 && !std::signbit(of(6, c))));
      CHECK(loss[6] == 0);
      CHECK(loss[7] == 0);
      for (int64_t r = 8; r < 40; ++r) CHECK(std::isfinite(loss[static_cast<size_t>(r)]));
    }
}

TEST_CASE("factors so small or large that a float has few digits for them give what f64 gives") {
  if (!machine_has_it()) return;
  for (const int64_t classes : {5, 40})
    for (const double scale : {1e-36, 1e-30, 1e30, -1e30, 0.0}) {
      CAPTURE(classes);
      CAPTURE(scale);
      const Tensor logits = normal_sample({20, classes}, DType::f32, 9), labels = some_labels(logits, 10);
      const SoftmaxCrossEntropyOptions options{.scale = scale};
      const Tensor grad = cast(softmax_cross_entropy_with_grad(logits, labels, options).grad, DType::f64);
      const Tensor exact = softmax_cross_entropy_with_grad(cast(logits, DType::f64), labels, options).grad;
      for (int64_t i = 0; i < grad.elements(); ++i) {
        const double want = exact.data<double>()[i];
        CHECK(std::abs(grad.data<double>()[i] - want) <= std::max(8e-7 * std::abs(want), 0x1p-148));
      }
    }
}
