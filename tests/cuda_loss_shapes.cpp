// Every kernel of softmax_cross_entropy at the sizes where one takes over from another, with rows that begin anywhere,
// forward, with the gradient and in place, against the reference; and the same bits in every order.
#include <algorithm>
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "cuda_loss_run.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;

namespace {

constexpr DType dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16};

// Logits of which row 1 is not to be read.
Tensor spoilt(const Shape& shape, DType dtype, uint64_t seed) {
  std::vector<double> x = cast(normal_sample(shape, DType::f32, seed), DType::f64).to_vector<double>();
  const auto classes = static_cast<size_t>(shape[1]);
  for (size_t c = 0; c < classes && x.size() > classes; ++c) x[classes + c] = NAN;
  return cast(Tensor::from(x, shape), dtype);
}

// Labels 0, the ignored one, the last class, and others.
Tensor labels_of(int64_t rows, int64_t classes) {
  std::vector<int64_t> labels(static_cast<size_t>(rows));
  for (size_t r = 0; r < labels.size(); ++r)
    labels[r] = r == 0 ? 0 : r == 1 ? -100 : r == 2 ? classes - 1 : static_cast<int64_t>(r * 7919) % classes;
  return Tensor::from(labels, {rows});
}

std::string fault_of(const LossRun& run, bool gradients) {
  const DType dtype = run.logits.dtype();
  double eps = reference::eps_of(dtype);
  // The reference adds smoothing / classes so many times to numbers near 1, where each rounds the same way.
  if (dtype == DType::f64 && run.options.target.smoothing != 0)
    eps *= std::max(1.0, static_cast<double>(run.logits.shape()[1]) / 64);
  const reference::Loss want = reference::loss(run.logits, run.target, run.options, run.inputs);
  const std::vector<Tensor> out = in_every_order([&] { return run.forward(); });
  std::string fault = reference::difference(out[loss_out::loss], want.loss, eps);
  if (!fault.empty()) return "loss " + fault;
  if (!gradients) return "";
  LossRun both = run;
  both.with_grad = true;
  const std::vector<Tensor> with_grad = in_every_order([&] { return both.forward(); });
  if (!same_bits(with_grad[loss_out::loss], out[loss_out::loss])) return "the loss has other bits with the gradient";
  fault = reference::difference(with_grad[loss_out::grad], want.grad_logits, eps);
  if (!fault.empty()) return "grad " + fault;
  const std::vector<Tensor> in_place = in_every_order([&] { return run.in_place(); });
  if (!same_bits(in_place[0], out[loss_out::loss])) return "the loss has other bits in place";
  if (!same_bits(in_place[1], with_grad[loss_out::grad])) return "the gradient has other bits in place";
  const Tensor ones = Tensor::ones(out[loss_out::loss].shape(), out[loss_out::loss].dtype());
  const Tensor backward = in_every_order([&] { return run.backward(ones, {}, true, false, false); })[0];
  return same_bits(backward, with_grad[loss_out::grad]) ? "" : "the gradient has other bits by backward";
}

}  // namespace

TEST_CASE("rows of any number of classes, wherever they begin") {
  std::vector<int64_t> sizes = {1,   2,   3,   5,   10,  17,  31,  32,   33,   47,   48,   63,   64,   65,   100, 127,
                                128, 129, 255, 256, 257, 512, 513, 1000, 1023, 1024, 1025, 1028, 1032, 2053, 2056};
  if (looks_for_races) sizes = {3, 10, 64, 65, 1024, 1025, 1032};
  uint64_t seed = 0;
  for (const int64_t classes : sizes)
    for (const DType dtype : dtypes)
      for (const int64_t offset : {0, 1, 3})
        for (const double smoothing : {0.0, 0.1}) {
          if (offset == 3 && (smoothing > 0 || looks_for_races)) continue;
          ++seed;
          if (trials_shared_by > 1 && seed % 7 > 1) continue;  // what else seed decides goes by 2, 3 and 5
          const int64_t rows = classes > 1000 ? 4 : 5;
          LossRun run = {.logits = spoilt({rows, classes}, dtype, seed),
                         .target = labels_of(rows, classes),
                         .options = {.axis = 1, .target = {.ignore = -100, .smoothing = smoothing}},
                         .offset = offset};
          if (seed % 2 == 0) run.options.reduction.kind = Kind::sum;
          if (seed % 3 == 0 && smoothing == 0) run.inputs.class_weights = positive_sample({classes}, DType::f32, seed);
          if (seed % 5 == 0) run.inputs.element_weights = positive_sample({rows}, DType::f32, seed);
          CAPTURE(classes);
          CAPTURE(name(dtype));
          CAPTURE(offset);
          CAPTURE(smoothing);
          const std::string fault = fault_of(run, true);
          CHECK_MESSAGE(fault.empty(), fault);
        }
}

TEST_CASE("rows of so many classes that a block of any size holds them in registers, and beyond") {
  if (looks_for_races) return;
  int trial = 0;
  for (const DType dtype : dtypes)
    for (const int64_t classes : {8192, 8196, 16384, 16388, 16392, 32768, 32772, 40000, 65536, 65544}) {
      if (++trial % trials_shared_by != 0) continue;
      CAPTURE(classes);
      CAPTURE(name(dtype));
      const LossRun run = {.logits = spoilt({3, classes}, dtype, static_cast<uint64_t>(classes)),
                           .target = labels_of(3, classes),
                           .options = {.axis = 1, .target = {.ignore = -100, .smoothing = classes % 8 ? 0 : 0.1}}};
      const std::string fault = fault_of(run, classes < 20000);
      CHECK_MESSAGE(fault.empty(), fault);
    }
}

TEST_CASE("classes on an axis that is not the last") {
  uint64_t seed = 100;
  for (const DType dtype : dtypes)
    for (const int64_t classes : {1, 3, 10, 65, 257})
      for (const int64_t inner : {2, 7, 33})
        for (const double smoothing : {0.0, 0.1}) {
          if (looks_for_races && classes * inner > 100) continue;
          CAPTURE(classes);
          CAPTURE(inner);
          CAPTURE(name(dtype));
          LossRun run = {.logits = normal_sample({3, classes, inner}, dtype, ++seed),
                         .target = label_sample({3, inner}, classes, DType::u8, seed),
                         .options = {.axis = 1, .target = {.ignore = 2, .smoothing = smoothing}},
                         .offset = static_cast<int64_t>(seed % 3)};
          const std::string fault = fault_of(run, true);
          CHECK_MESSAGE(fault.empty(), fault);
        }
}

TEST_CASE("more rows than all blocks take at once") {
  if (looks_for_races) return;
  const auto check = [](int64_t rows, int64_t classes, double smoothing, DType dtype) {
    CAPTURE(rows);
    CAPTURE(classes);
    const LossRun run = {.logits = spoilt({rows, classes}, dtype, 7),
                         .target = labels_of(rows, classes),
                         .options = {.axis = 1, .target = {.ignore = -100, .smoothing = smoothing}}};
    const double eps = reference::eps_of(dtype);
    const reference::Loss want = reference::loss(run.logits, run.target, run.options);
    CHECK(reference::difference(run.forward()[loss_out::loss].to(Device::cpu()), want.loss, eps) == "");
    LossRun both = run;
    both.with_grad = true;
    const std::vector<Tensor> out = in_every_order([&] { return both.forward(); });
    CHECK(reference::difference(out[loss_out::loss], want.loss, eps) == "");
    CHECK(reference::difference(out[loss_out::grad], want.grad_logits, eps) == "");
  };
  if (trials_shared_by == 1) {
    check(2048 * 128 + 200, 1, 0, DType::bf16);  // tiles
    check(2048 * 4 + 9, 65, 0, DType::f32);      // warps
  }
  check(2048 + 5, 1025, 0.1, DType::f32);  // blocks
  check(2048 + 5, 1032, 0.1, DType::f16);  // registers
  check(2048 + 5, 1032, 0, DType::f16);
}

// But for how far it begins from a multiple of 16 bytes, if it has more classes than a warp takes: the sums of a block
// are of packs.
TEST_CASE("a row's loss and gradient do not depend on where it stands") {
  for (const int64_t classes : {7, 64, 100, 1025, 1032})
    for (const DType dtype : {DType::f32, DType::f16}) {
      CAPTURE(classes);
      const Tensor row = normal_sample({1, classes}, dtype, 3);
      std::vector<double> x;
      const std::vector<double> once = cast(row, DType::f64).to_vector<double>();
      for (int i = 0; i < 140; ++i) x.insert(x.end(), once.begin(), once.end());
      const LossRun run = {.logits = cast(Tensor::from(x, {140, classes}), dtype),
                           .target = Tensor::full({140}, 5, DType::i32),
                           .options = {.axis = 1, .reduction = {.kind = Kind::none}},
                           .with_grad = true};
      const std::vector<Tensor> out = run.forward();
      const Tensor loss = out[loss_out::loss].to(Device::cpu()), grad = out[loss_out::grad].to(Device::cpu());
      const int64_t step = classes == 1025 ? 16 / static_cast<int64_t>(size_of(dtype)) : 1;
      for (int64_t r = step; r < 140; r += step) {
        CHECK(same_bits(loss.slice(r, r + 1).clone(), loss.slice(0, 1).clone()));
        CHECK(same_bits(grad.slice(r, r + 1).clone(), grad.slice(0, 1).clone()));
      }
    }
}
