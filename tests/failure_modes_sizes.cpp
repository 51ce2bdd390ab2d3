// What went wrong for users of other systems, chapter sizes: beyond 2^31 elements, odd class counts, many rows, odd
// addresses. Each case is named after the failure that must not happen here.
#include <cstdlib>

#include <doctest/doctest.h>

#include <xent/ops/cpu/rows.h>
#include <xent/xent.h>

#include "loss_calls.h"
#include "reference_loss.h"

using namespace xent;
using Kind = Reduction::Kind;

namespace {

// Loss and gradient against the reference, from the tape and from with_grad.
std::string fault_of(const Tensor& x, const Tensor& y, const SoftmaxCrossEntropyOptions& options = {}) {
  const auto want = reference::loss(x, y, options);
  const double eps = reference::eps_of(x.dtype());
  Tape tape;
  tape.watch(x);
  const Tensor loss = softmax_cross_entropy(x, y, options);
  const Tensor grad = tape.backward(loss, {.upstream = Tensor::ones(loss.shape(), loss.dtype())})[x];
  const auto both = softmax_cross_entropy_with_grad(x, y, options);
  for (const auto& [got, numbers] :
       {std::pair{loss, want.loss}, {grad, want.grad_logits}, {both.loss, want.loss}, {both.grad, want.grad_logits}})
    if (const std::string fault = reference::difference(got, numbers, eps); !fault.empty()) return fault;
  return "";
}

}  // namespace

TEST_CASE("F73: the place of a row is computed in 64 bits") {
  constexpr int64_t rows = (1 << 16) + 1, classes = 1 << 16;
  const cpu::Rows last({rows, classes}, 1), first({classes, rows}, 0), middle({2, classes, rows}, 1);
  CHECK(last.count() == rows);
  CHECK(last.start(rows - 1) == (rows - 1) * classes);
  CHECK(first.start(rows - 1) == rows - 1);
  CHECK(middle.count() == 2 * rows);
  CHECK(middle.start(2 * rows - 1) == classes * rows + rows - 1);
}

TEST_CASE("F73: the last of 2^31 + 2^15 logits counts") {
  // 4 GiB of f16 logits and no gradient: too much for most machines that test, so it runs where it is asked for.
  if (!std::getenv("XENT_TEST_HUGE")) return;
  constexpr int64_t rows = (1 << 16) + 1, classes = 1 << 15;
  Tensor x = Tensor::zeros({rows, classes}, DType::f16);
  x.mutable_data<Float16>()[rows * classes - 1] = Float16(20.0f);
  Tensor y = Tensor::zeros({rows}, DType::i32);
  y.mutable_data<int32_t>()[rows - 1] = classes - 1;
  const Tensor loss = softmax_cross_entropy(x, y, reduced(Kind::none));
  CHECK(loss.data<float>()[0] == doctest::Approx(std::log(classes)).epsilon(1e-6));
  CHECK(loss.data<float>()[rows - 1] == doctest::Approx(std::log1p((classes - 1) * std::exp(-20))).epsilon(1e-5));
}

TEST_CASE("F74: any number of classes is right, in every type, with few rows and many") {
  for (const int64_t classes : {1, 2, 3, 31, 32, 33, 63, 65, 1023, 1024, 1025, 4097, 8003, 50257, 131073})
    for (const int64_t rows : {1, 2, 257}) {
      if (rows * classes > 300'000) continue;
      for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
        CAPTURE(classes);
        CAPTURE(rows);
        CAPTURE(dtype);
        const Tensor x = cast(scale(normal_sample({rows, classes}, DType::f64, 1), 2), dtype);
        CHECK(fault_of(x, label_sample({rows}, classes, DType::i64, 2)) == "");
      }
    }
}

TEST_CASE("F74: many classes on an axis that is not the last are right too") {
  for (const int64_t classes : {33, 1025, 8003})
    for (const int64_t inner : {2, 7, 33}) {
      CAPTURE(classes);
      CAPTURE(inner);
      const Tensor x = normal_sample({2, classes, inner}, DType::f32, 3);
      CHECK(fault_of(x, label_sample({2, inner}, classes, DType::i32, 4), {.axis = 1, .target = {.smoothing = 0.1}}) ==
            "");
    }
}

TEST_CASE("F75: more rows than a 16-bit count holds are all there, along the batch and along another axis") {
  constexpr int64_t rows = 70'000;
  CHECK(fault_of(normal_sample({rows, 2}, DType::f32, 5), label_sample({rows}, 2, DType::u8, 6), reduced(Kind::none)) ==
        "");
  CHECK(fault_of(normal_sample({1, 2, rows}, DType::f32, 7), label_sample({1, rows}, 2, DType::u8, 8), {.axis = 1}) ==
        "");
}

TEST_CASE("F76: logits that start at any element of their memory give the same bits") {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64})
    for (const int64_t classes : {3, 33, 1025})
      for (const int64_t offset : {1, 2, 3, 7}) {
        const Tensor x = cast(normal_sample({4, classes}, DType::f64, 9), dtype),
                     y = label_sample({4}, classes, DType::i64, 10);
        Tensor memory = Tensor::zeros({4 * classes + offset}, dtype);
        Tensor moved = memory.view({4, classes}, offset);
        moved.copy_from(x);
        CHECK(run(moved, y).loss == run(x, y).loss);
        CHECK(run(moved, y).grad == run(x, y).grad);
      }
}
