// Every kernel with a barrier or a fence, with a few blocks each: small enough for ThreadSanitizer, which knows the
// orders that CUDA promises and no others (docs/emulator.md), and finds what no order of threads shows. ctest runs the
// other tests of kernels without it.
#include <string>

#include <doctest/doctest.h>

#include <xent/ops/mxnet_labels.h>

#include "cuda_loss_run.h"
#include "reference_loss.h"

using namespace xent;

namespace {

const Device gpu = Device::cuda();

void check_loss(const Shape& shape, double smoothing, DType dtype, bool log_probs = false) {
  CAPTURE(shape.str());
  CAPTURE(smoothing);
  CAPTURE(name(dtype));
  const Shape rows = shape.rank() == 2 ? Shape{shape[0]} : Shape{shape[0], shape[2]};
  const LossRun run = {.logits = normal_sample(shape, dtype, 1),
                       .target = label_sample(rows, shape[1], DType::i64, 2),
                       .options = {.axis = 1, .target = {.smoothing = smoothing}, .output = {.log_probs = log_probs}}};
  const double eps = reference::eps_of(dtype);
  const reference::Loss want = reference::loss(run.logits, run.target, run.options, run.inputs);
  const std::vector<Tensor> out = in_every_order([&] { return run.in_place(); });
  CHECK(reference::difference(out[0], want.loss, eps) == "");
  CHECK(reference::difference(out[1], want.grad_logits, eps) == "");
  const Tensor backward =
      in_every_order([&] { return run.backward(Tensor::ones({}, out[0].dtype()), {}, true, false, false); })[0];
  CHECK(same_bits(backward, out[1]));
}

// An op's result on both devices, where nothing is rounded differently.
template <class F>
void check_same(F&& op, const Tensor& x) {
  const std::vector<Tensor> there = in_every_order([&] { return op(x.to(gpu)); });
  CHECK(same_bits(there[0], op(x)));
}

}  // namespace

TEST_CASE(
    "the loss of rows in several blocks: by tiles, by warps, in registers, by blocks, with all that a loss can have") {
  for (const double smoothing : {0.0, 0.1})
    for (const Shape& shape : {Shape{300, 10}, {9, 70}, {3, 1028}, {3, 1025}, {70, 3, 5}, {9, 33, 2}, {2, 300, 2}})
      check_loss(shape, smoothing, DType::f32);
  for (const Shape& shape : {Shape{9, 70}, {3, 1100}}) check_loss(shape, 0, DType::f32, true);
  check_loss({3, 2056}, 0.1, DType::bf16);
  check_loss({300, 3}, 0, DType::f64);
}

TEST_CASE("a bad label in any block, and probabilities given for logits") {
  LossRun run = {.logits = softmax(normal_sample({300, 10}, DType::f32, 1), 1),
                 .target = label_sample({300}, 10, DType::i64, 2),
                 .options = {.axis = 1, .validate = true}};
  CHECK_NOTHROW(in_every_order([&] { return run.forward(); }));
  run.target.mutable_data<int64_t>()[257] = 10;
  CHECK_THROWS_AS(run.forward()[0].to(Device::cpu()), LabelError);
}

TEST_CASE("softmax of rows of a warp and of a block") {
  for (const Shape& shape : {Shape{9, 70}, {3, 1100}}) {
    const Tensor x = normal_sample(shape, DType::f64, 1);
    const std::vector<double> there = in_every_order([&] { return softmax(x.to(gpu), 1); })[0].to_vector<double>();
    const std::vector<double> here = softmax(x, 1).to_vector<double>();
    for (size_t i = 0; i < here.size(); ++i) CHECK(there[i] == doctest::Approx(here[i]).epsilon(1e-13));
  }
}

TEST_CASE("transposes, sums of columns and rows, a bias's gradient, and labels of any dtype") {
  check_same([](const Tensor& x) { return permute(x, {1, 0}); }, normal_sample({40, 70}, DType::f32, 1));
  const Tensor whole = cast(label_sample({300, 40}, 100, DType::i64, 2), DType::f32);
  check_same([](const Tensor& x) { return sum(x, {0}); }, whole);
  check_same([](const Tensor& x) { return sum(x, {1}); }, whole);
  check_same([](const Tensor& x) { return sum(x); }, whole);
  check_same([](const Tensor& x) { return apply(mxnet_labels_op, {x})[0]; }, whole);
  const auto bias_gradient = [](const Tensor& dy) {
    const Tensor bias = Tensor::zeros({40}, DType::f32, dy.device());
    const Tensor x = Tensor::ones({300, 1}, DType::f32, dy.device()),
                 w = Tensor::ones({1, 40}, DType::f32, dy.device());
    Tape tape;
    tape.watch(bias);
    const Tensor y = linear(x, w, bias);
    return tape.backward(y, {.upstream = dy})[bias];
  };
  check_same(bias_gradient, whole);
}

TEST_CASE("Adam's step, and gradients clipped to a norm") {
  const auto step = [](Device device) {
    const Tensor x = normal_sample({700}, DType::f64, 1).to(device), gradient = x.clone();
    const Tensor m = Tensor::zeros({700}, DType::f64, device), v = m.clone();
    const Tensor squares = Tensor::scalar(0, DType::f64, device);
    accumulate_squares(squares, gradient);
    clip_to_norm(gradient, squares, 2);
    adam_step(x, gradient, m, v, Tensor::scalar(0.125).to(device), Tensor::from<int64_t>({1}, {}, device));
    return x;
  };
  const std::vector<double> there = in_every_order([&] { return step(gpu); })[0].to_vector<double>();
  const std::vector<double> here = step(Device::cpu()).to_vector<double>();
  for (size_t i = 0; i < here.size(); ++i) CHECK(there[i] == doctest::Approx(here[i]).epsilon(1e-12));
}

TEST_CASE("random shifts draw, and then move the generator on") {
  const auto shifted = [](const Tensor& x) {
    Generator generator(1, x.device());
    return random_shift_flip(x, {.shift = 2, .flip = true}, generator);
  };
  check_same(shifted, normal_sample({5, 4, 4, 1}, DType::f32, 4));
}
