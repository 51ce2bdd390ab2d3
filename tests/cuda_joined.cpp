// Joined launches: many parameters in one kernel, with the bits of one kernel each, and in the order they were called.
#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include <xent/core/join.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

constexpr int64_t block = 2048;  // elements that one block of the kernel takes
constexpr int64_t sizes[] = {1, 0, 3, 257, block - 1, block, block + 1, 2 * block + 5};

Tensor on_cuda(const Tensor& x, int64_t before = 0) {
  Tensor there = Tensor::zeros({before + x.elements()}, x.dtype(), Device::cuda()).view(x.shape(), before);
  there.copy_from(x);
  return there;
}

Tensor rate(double value) { return Tensor::scalar(value, DType::f32, Device::cuda()); }

// Parameters of many sizes, both dtypes, some not aligned, each with a gradient and two kinds of state.
struct Group {
  std::vector<std::array<Tensor, 4>> parameters;
  std::vector<Tensor> rates = {rate(0.125), rate(0.5)};
  Tensor steps = Tensor::full({}, 3, DType::i64, Device::cuda());

  explicit Group(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const DType dtype = i % 3 == 2 ? DType::f64 : DType::f32;
      const Shape shape{sizes[i % std::size(sizes)]};
      const auto tensor = [&](uint64_t seed, size_t part) {
        const Tensor x = part == 3 ? positive_sample(shape, dtype, seed) : normal_sample(shape, dtype, seed);
        return on_cuda(x, i % 5 == part);
      };
      parameters.push_back({tensor(4 * i, 0), tensor(4 * i + 1, 1), tensor(4 * i + 2, 2), tensor(4 * i + 3, 3)});
    }
  }
  std::vector<Tensor> tensors() const {
    std::vector<Tensor> all;
    for (const auto& parameter : parameters) all.insert(all.end(), parameter.begin(), parameter.end());
    return all;
  }
  void sgd(const SgdOptions& options) {  // every other one without a velocity, if there is no momentum
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto& [x, g, v, unused] = parameters[i];
      sgd_step(x, g, options.momentum == 0 && i % 2 == 0 ? Tensor() : v, rates[i % 2], options);
    }
  }
  void adam(const AdamOptions& options) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto& [x, g, m, v] = parameters[i];
      adam_step(x, g, m, v, rates[i % 2], steps, options);
    }
  }
};

int64_t launches(const Profile& profile, const Op& op) {
  int64_t count = 0;
  for (const Profile::Row& row : profile.rows()) count += row.op == &op ? row.launches : 0;
  return count;
}

// Runs steps one by one, and joined in every order: the same bits.
template <class F>
void check_joined(const F& steps, size_t count) {
  Group alone(count);
  steps(alone);
  const auto joined = in_every_order([&] {
    Group together(count);
    Joined join;
    steps(together);
    join.launch();
    return together.tensors();
  });
  const std::vector<Tensor> expected = alone.tensors();
  for (size_t i = 0; i < joined.size(); ++i) {
    CAPTURE(i);
    CHECK(same_bits(joined[i], expected[i].to(Device::cpu())));
  }
}

}  // namespace

TEST_CASE("parameters of any size, dtype and alignment are updated as one by one, also more than a table holds") {
  for (const size_t count : {size_t{1}, size_t{2}, size_t{9}, size_t{48}, size_t{49}, size_t{100}}) {
    if (looks_for_races && count > 9) continue;
    CAPTURE(count);
    check_joined([](Group& group) { group.sgd({.weight_decay = 0.25}); }, count);
    check_joined([](Group& group) { group.sgd({.momentum = 0.9, .nesterov = true}); }, count);
    check_joined([](Group& group) { group.adam({.weight_decay = 0.25, .decoupled = true}); }, count);
  }
}

TEST_CASE("an optimizer starts one kernel for all of its groups that have the same options") {
  std::vector<Parameter> first, second;
  for (int i = 0; i < 5; ++i)
    (i < 3 ? first : second).push_back({std::to_string(i), parameter(on_cuda(normal_sample({33}, DType::f32, 1)))});
  Adam adam(first, {.learning_rate = 0.1});
  adam.add_group(second, {.learning_rate = 0.5});
  Tape tape;
  Tensor total = Tensor::zeros({}, DType::f32, Device::cuda());
  for (const auto& group : {first, second})
    for (const Parameter& x : group) total = total + sum(x.value);
  const Gradients gradients = tape.backward(total);
  const Profile profile;
  adam.step(gradients);
  CHECK(launches(profile, adam_step_op) == 1);
  CHECK(launches(profile, advance_op) == 1);
  const auto moved = [](const Parameter& x) {
    return normal_sample({33}, DType::f32, 1).to_vector<float>()[0] - x.value.to_vector<float>()[0];
  };
  CHECK(moved(first[0]) == doctest::Approx(0.1));
  CHECK(moved(second[1]) == doctest::Approx(0.5));
}

TEST_CASE("a call that touches what is to be updated comes after it, and what does not join as well") {
  const Tensor x = on_cuda(Tensor::ones({4})), y = on_cuda(Tensor::ones({4})), g = on_cuda(Tensor::full({4}, 2));
  const Tensor half = rate(0.5), one = rate(1);
  const Profile profile;
  Joined join;
  sgd_step(x, g, {}, half);                         // x = 0
  sgd_step(y, x, {}, one);                          // y = 1, its gradient is what x became
  sgd_step(x, g, {}, half);                         // x = -1
  CHECK(launches(profile, sgd_step_op) == 2);       // the last is kept
  const Tensor copy = x.clone();                    // of another op
  sgd_step(x.slice(1, 3), g.slice(1, 3), {}, one);  // x = -1 -3 -3 -1
  sgd_step(x.slice(3, 4), g.slice(3, 4), {}, one);  // beside it, so joined: x = -1 -3 -3 -3
  CHECK(launches(profile, sgd_step_op) == 3);
  sgd_step(y, g, {}, one, {.weight_decay = 1});  // other attributes: y = 1 - (2 + 1)
  CHECK(launches(profile, sgd_step_op) == 4);
  join.launch();
  join.launch();  // nothing is left
  CHECK(launches(profile, sgd_step_op) == 5);
  CHECK(copy.to_vector<float>() == std::vector<float>(4, -1));
  CHECK(x.to_vector<float>() == std::vector<float>{-1, -3, -3, -3});
  CHECK(y.to_vector<float>() == std::vector<float>(4, -2));
}

TEST_CASE("what an exception leaves behind is not launched; the CPU runs at once; and a scope within one is its own") {
  const Tensor x = on_cuda(Tensor::ones({4})), g = on_cuda(Tensor::ones({4})), one = rate(1);
  {
    const Joined join;
    sgd_step(x, g, {}, one);
    CHECK_THROWS_AS(sgd_step(x, g.slice(0, 2), {}, one), ShapeError);
  }
  CHECK(x.to_vector<float>() == std::vector<float>(4, 1));

  Joined outer;
  const Tensor here = Tensor::ones({4}), gradient = Tensor::ones({4});
  sgd_step(here, gradient, {}, Tensor::scalar(1));
  CHECK(here.to_vector<float>() == std::vector<float>(4, 0));
  sgd_step(x, g, {}, one);  // 0
  {
    Joined inner;
    const Tensor y = on_cuda(Tensor::ones({4}));
    sgd_step(y, g, {}, one);
    inner.launch();
    CHECK(y.to_vector<float>() == std::vector<float>(4, 0));
  }
  sgd_step(x, g, {}, one);  // -1
  outer.launch();
  CHECK(x.to_vector<float>() == std::vector<float>(4, -1));
}
