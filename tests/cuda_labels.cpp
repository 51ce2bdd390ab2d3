// Labels on the emulated GPU: the errors that the CPU gives, word for word, whatever the order of threads and blocks;
// and pick and softmax, which give what they give on the CPU.
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include <xent/cuda/emulator/schedule.h>

#include "cuda_loss_run.h"
#include "error_of.h"

using namespace xent;

namespace {

// What is said of these labels there, in all orders the same.
template <class F>
std::string error_there(const F& call) {
  std::string first;
  for (const auto order : {emulator::Order::forward, emulator::Order::backward, emulator::Order::shuffled}) {
    const emulator::ScheduleScope scope({order, 3});
    const std::string now = error_of<LabelError>([&] { call().to(Device::cpu()); });
    if (order == emulator::Order::forward) first = now;
    CHECK(now == first);
  }
  return first;
}

Tensor there(const Tensor& x) { return x.to(Device::cuda()); }

// Labels of 0 and 1, and what is put among them.
Tensor labels_with(int64_t count, const std::vector<std::pair<int64_t, int64_t>>& put, DType dtype) {
  std::vector<int64_t> labels(static_cast<size_t>(count));
  for (size_t r = 0; r < labels.size(); ++r) labels[r] = static_cast<int64_t>(r % 2);
  for (const auto& [row, label] : put) labels[static_cast<size_t>(row)] = label;
  return cast(Tensor::from(labels, {count}), dtype);
}

// The largest difference relative to 1; NaNs must be the same ones.
double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = cast(a, DType::f64).to_vector<double>(), y = cast(b, DType::f64).to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] != y[i] && !(std::isnan(x[i]) && std::isnan(y[i]))) worst = std::max(worst, std::abs(x[i] - y[i]));
  return std::isnan(worst) ? HUGE_VAL : worst;
}

}  // namespace

TEST_CASE("a bad label is told as on the CPU, the first of several, and what they look like") {
  const int64_t many = looks_for_races ? 600 : 5000;
  for (const DType dtype : {DType::u8, DType::i32, DType::i64})
    for (const int64_t count : {int64_t{1}, int64_t{3}, int64_t{257}, many})
      for (const auto& put : std::vector<std::vector<std::pair<int64_t, int64_t>>>{
               {{count - 1, 7}},
               {{count - 1, 255}, {count / 2, 255}},
               {{count - 1, 100}, {count / 2, 9}},
               {{0, 2}, {count - 1, 77}},
           }) {
        CAPTURE(name(dtype));
        CAPTURE(count);
        const Tensor labels = labels_with(count, put, dtype), x = normal_sample({count, 2}, DType::f32, 1);
        const std::string want = error_of<LabelError>([&] { pick(x, labels); });
        CHECK(want != "no error");
        CHECK(error_there([&] { return pick(there(x), there(labels)); }) == want);
        const std::string of_loss = error_of<LabelError>([&] { softmax_cross_entropy(x, labels); });
        CHECK(error_there([&] { return softmax_cross_entropy(there(x), there(labels)); }) == of_loss);
      }
}

TEST_CASE("negative and enormous labels are told, and never used") {
  for (const int64_t label : {int64_t{-1}, int64_t{-100}, INT64_MIN, INT64_MAX, (int64_t{1} << 32) + 1})
    for (const int64_t classes : {2, 100, 1025, 1032}) {
      CAPTURE(label);
      CAPTURE(classes);
      const Tensor labels = labels_with(5, {{3, label}}, DType::i64), x = normal_sample({5, classes}, DType::f32, 1);
      const std::string want = error_of<LabelError>([&] { softmax_cross_entropy(x, labels); });
      CHECK(error_there([&] { return softmax_cross_entropy(there(x), there(labels)); }) == want);
      CHECK(error_there([&] { return softmax_cross_entropy_with_grad(there(x), there(labels)).grad; }) != "no error");
      CHECK(error_there([&] { return softmax_cross_entropy_denominator(x.shape(), there(labels)); }) != "no error");
    }
}

TEST_CASE("an ignored label is no bad one, and does not count for the guess") {
  const Tensor labels = labels_with(40, {{7, -100}, {9, 3}}, DType::i64), x = normal_sample({40, 2}, DType::f32, 1);
  const SoftmaxCrossEntropyOptions options{.target = {.ignore = -100}};
  const std::string want = error_of<LabelError>([&] { softmax_cross_entropy(x, labels, options); });
  CHECK(error_there([&] { return softmax_cross_entropy(there(x), there(labels), options); }) == want);
  const Tensor good = labels_with(40, {{7, -100}}, DType::i64);
  CHECK(error_there([&] { return softmax_cross_entropy(there(x), there(good), options); }) == "no error");
}

TEST_CASE("after a bad label the logits of the loss in place are as they were, and the next loss is right") {
  for (const int64_t classes : {10, 100, 1025, 1032}) {
    CAPTURE(classes);
    const Tensor x = normal_sample({6, classes}, DType::f32, 1), labels = labels_with(6, {{2, classes}}, DType::i32);
    const LossRun bad = {.logits = x, .target = labels, .options = {.axis = 1}};
    std::vector<Tensor> results = bad.in_place();
    CHECK_THROWS_AS(results[1].to(Device::cpu()), LabelError);
    CHECK(same_bits(results[1].to(Device::cpu()), x));
    const LossRun good = {.logits = x, .target = labels_with(6, {}, DType::i32), .options = {.axis = 1}};
    CHECK(distance(good.forward()[loss_out::loss].to(Device::cpu()), softmax_cross_entropy(x, good.target)) < 1e-6);
  }
}

TEST_CASE("the first of two errors is told") {
  const Tensor x = there(normal_sample({4, 2}, DType::f32, 1));
  const Tensor first = pick(x, there(labels_with(4, {{1, 5}}, DType::i32)));
  const Tensor second = pick(x, there(labels_with(4, {{3, 9}}, DType::i32)));
  CHECK(error_of<LabelError>([&] { second.to(Device::cpu()); }).find("row 1: label 5") != std::string::npos);
  CHECK(error_of<LabelError>([&] { first.to(Device::cpu()); }) == "no error");
}

TEST_CASE("pick gives what it gives on the CPU, and its gradient") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t classes : {1, 2, 33, 257})
      for (const int64_t rows : {0, 1, 31, 257}) {
        const Tensor x = normal_sample({rows, classes}, dtype, 1), index = label_sample({rows}, classes, DType::i32, 2);
        const Tensor dy = normal_sample({rows}, dtype, 3);
        const auto run = [&](Device device) {
          const Tensor on_device = x.to(device);
          Tape tape;
          tape.watch(on_device);
          const Tensor y = pick(on_device, index.to(device));
          return std::vector<Tensor>{y, tape.backward(y, {.upstream = dy.to(device)})[on_device]};
        };
        const std::vector<Tensor> want = run(Device::cpu()), got = in_every_order([&] { return run(Device::cuda()); });
        CHECK(same_bits(got[0], want[0]));
        CHECK(same_bits(got[1], want[1]));
      }
}

TEST_CASE("softmax and log_softmax give what they give on the CPU, along any axis") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const auto& [shape, axis] : std::vector<std::pair<Shape, int>>{{{0, 3}, 1},
                                                                        {{3, 0}, 1},
                                                                        {{5, 1}, 1},
                                                                        {{9}, 0},
                                                                        {{300, 10}, 1},
                                                                        {{9, 33}, 1},
                                                                        {{3, 1024}, 1},
                                                                        {{3, 1025}, 1},
                                                                        {{2, 40000}, 1},
                                                                        {{33, 7}, 0},
                                                                        {{3, 65, 70}, 1},
                                                                        {{2, 300, 3}, 1}})
      for (const bool log : {false, true}) {
        if (looks_for_races && shape.elements() > 5000) continue;
        CAPTURE(shape);
        CAPTURE(log);
        const Tensor x = normal_sample(shape, dtype, 5), dy = normal_sample(shape, dtype, 6);
        const auto run = [&](Device device) {
          const Tensor on_device = x.to(device);
          Tape tape;
          tape.watch(on_device);
          const Tensor y = log ? log_softmax(on_device, axis) : softmax(on_device, axis);
          return std::vector<Tensor>{y, tape.backward(y, {.upstream = dy.to(device)})[on_device]};
        };
        const std::vector<Tensor> want = run(Device::cpu()), got = in_every_order([&] { return run(Device::cuda()); });
        const double bound = dtype == DType::f32 ? 4e-6 : 1e-13;  // of numbers up to 20, and of sums of their gradients
        CHECK(distance(got[0], want[0]) <= bound);
        CHECK(distance(got[1], want[1]) <= (shape.elements() > 10000 ? 10 : 1) * bound);
      }
}

TEST_CASE("rows of -inf, with +inf or with NaN give NaN, and -inf elsewhere a probability of 0") {
  const double infinity = INFINITY;
  for (const int64_t classes : {3, 40, 1500}) {
    std::vector<double> values(static_cast<size_t>(4 * classes), 1.0);
    for (int64_t c = 0; c < classes; ++c) values[static_cast<size_t>(c)] = -infinity;
    values[static_cast<size_t>(classes) + 1] = infinity;
    values[static_cast<size_t>(2 * classes) + 2] = NAN;
    values[static_cast<size_t>(3 * classes)] = -infinity;
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      const Tensor x = cast(Tensor::from(values, {4, classes}), dtype), labels = Tensor::zeros({4}, DType::i64);
      const LossRun run = {.logits = x,
                           .target = Tensor::full({4}, 1, DType::i64),
                           .options = {.axis = 1, .reduction = {.kind = Reduction::Kind::none}},
                           .with_grad = true};
      const std::vector<Tensor> out = in_every_order([&] { return run.forward(); });
      const std::vector<double> loss = cast(out[loss_out::loss], DType::f64).to_vector<double>();
      const std::vector<double> grad = cast(out[loss_out::grad], DType::f64).to_vector<double>();
      for (size_t r = 0; r < 3; ++r) {
        CHECK(std::isnan(loss[r]));
        for (size_t c = 0; c < static_cast<size_t>(classes); ++c)
          CHECK(std::isnan(grad[r * static_cast<size_t>(classes) + c]));
      }
      CHECK(loss[3] == doctest::Approx(std::log(static_cast<double>(classes - 1))).epsilon(1e-6));
      CHECK(grad[static_cast<size_t>(3 * classes)] == 0);
    }
  }
}

TEST_CASE("validate refuses there what it refuses on the CPU, in the same words") {
  const auto refused = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "no error";
  };
  const int64_t rows = 300;
  const Tensor x = normal_sample({rows, 4}, DType::f32, 1), labels = label_sample({rows}, 4, DType::i32, 2);
  // A total of weights that are not positive is wrong as well, and would be told if the weights were not.
  const SoftmaxCrossEntropyOptions options{.reduction = {.when_zero = Reduction::WhenZero::error_if_not_positive},
                                           .validate = true};
  std::vector<double> q(static_cast<size_t>(4 * rows), 0.25), e(static_cast<size_t>(rows), 1);
  const auto row = [&](size_t r, std::vector<double> values) {
    std::vector<double> changed = q;
    std::copy(values.begin(), values.end(), changed.begin() + static_cast<std::ptrdiff_t>(4 * r));
    return Tensor::from(changed, {rows, 4});
  };
  e[77] = -1;
  struct Given {
    Tensor target;
    LossInputs inputs;
  };
  const Given all[] = {{labels, {.class_weights = Tensor::from<double>({1, 2, NAN, -1}, {4})}},
                       {labels, {.element_weights = Tensor::from(e, {rows})}},
                       {labels, {.class_weights = Tensor::full({4}, -1.0 / 3, DType::f64)}},
                       {labels, {.class_weights = Tensor::zeros({4})}},
                       {row(250, {0.5, 0.5, 0.5, 0}), {}},
                       {row(9, {0.5, -0.5, 1, 0}), {}},
                       {row(0, {1, 0, 0, NAN}), {}},
                       {row(0, {1, 0, 0, -NAN}), {}},
                       {row(3, {1, 0, 0, 0}), {}},
                       {labels, {.class_weights = Tensor::ones({4}), .element_weights = Tensor::ones({rows})}}};
  for (const auto& [target, inputs] : all) {
    const LossInputs on_device{.class_weights = inputs.class_weights ? there(inputs.class_weights) : Tensor(),
                               .element_weights = inputs.element_weights ? there(inputs.element_weights) : Tensor()};
    const std::string want = refused([&] { softmax_cross_entropy(x, target, options, inputs); });
    CHECK(refused([&] { softmax_cross_entropy(there(x), there(target), options, on_device).to(Device::cpu()); }) ==
          want);
  }
}
