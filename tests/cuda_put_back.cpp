// After a bad label the states that the same tape's ops have updated are what they were before it: running statistics,
// a generator's state. Two ops of our own stand for batch_norm2d and for a loss.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/core/fill.h>
#include <xent/cuda/call.cuh>
#include <xent/xent.h>

#include "cuda_orders.h"

using namespace xent;

namespace {

using cuda::ErrorRecord;

constexpr int64_t classes = 4;

// y = x; the state counts calls, unless there is an error already.
__global__ void count(const float* x, float* y, float* state, const ErrorRecord* errors) {
  if (threadIdx.x == 0 && errors->kind == ErrorRecord::Kind::none) state[0] += 1;
  y[threadIdx.x] = x[threadIdx.x];
}

// y = x[0]; an error if the label is no class and there is none yet.
__global__ void judge(const float* x, const int64_t* label, float* y, ErrorRecord* errors, ErrorRecord found) {
  y[0] = x[0];
  if (label[0] >= 0 && label[0] < classes) return;
  if (errors->kind != ErrorRecord::Kind::none) return;
  found.label = found.least = found.most = label[0];
  *errors = found;
}

const Op count_op = {
    .name = "count",
    .formula = "y = x; n += 1",
    .inputs = 2,
    .infer = [](std::span<const Spec> in, const Attrs&) { return Specs{in[0]}; },
    .forward = {nullptr,
                [](const Call& call) {
                  const auto threads = static_cast<unsigned>(call.in[0].shape.elements());
                  cuda::start(call, "count", {1, threads}, count, call.in[0].as<float>(), call.out[0].as<float>(),
                              call.in[1].as<float>(), cuda::errors_of(call));
                }},
    .backward = {nullptr, cuda::copy_grad},
    .needs_in = nothing,
    .needs_out = nothing,
    .differentiable = 0b01,
    .updates = 0b10,
};

const Op judge_op = {
    .name = "judge",
    .formula = "y = x[0]",
    .inputs = 2,
    .infer =
        [](std::span<const Spec> in, const Attrs&) {
          return Specs{Spec{{}, in[0].dtype}};
        },
    .forward = {nullptr,
                [](const Call& call) {
                  const ErrorRecord found = {
                      .kind = ErrorRecord::Kind::label, .op = "judge", .classes = classes, .one_bad_value = true};
                  cuda::start(call, "judge", {1, 1}, judge, call.in[0].as<float>(), call.in[1].as<int64_t>(),
                              call.out[0].as<float>(), cuda::errors_of(call), found);
                }},
    .backward = {nullptr,
                 [](const Call& call) {
                   cuda::fill({.out = call.grad_in.first(1), .attrs = FillAttrs{1}, .stream = call.stream});
                 }},
    .needs_in = nothing,
    .needs_out = nothing,
    .differentiable = 0b01,
    .checks_labels = true,
};

const Tensor& images() {
  static const Tensor x = Tensor::ones({3}, DType::f32, Device::cuda());
  return x;
}
Tensor label(int64_t value) { return Tensor::from<int64_t>({value}, {1}, Device::cuda()); }

// A forward pass that updates both states, the first one twice, a loss, and backward.
Tensor batch(const Tensor& first, const Tensor& second, const Tensor& target) {
  Tape tape;
  tape.watch(images());
  const Tensor hidden = apply(count_op, {apply(count_op, {images(), first})[0], second})[0];
  const Tensor loss = apply(judge_op, {apply(count_op, {hidden, first})[0], target})[0];
  tape.backward(loss);
  return loss;
}

struct States {
  Tensor first = Tensor::full({1}, 10, DType::f32, Device::cuda());
  Tensor second = Tensor::full({1}, 20, DType::f32, Device::cuda());
  States() { images(); }  // which are no Step's, also where a case is run alone

  void check(int batches) const {
    CHECK(first.item() == 10 + 2 * batches);
    CHECK(second.item() == 20 + batches);
  }
};

constexpr const char* text = "judge: row 0: label 7 is not in [0, 4) (min 7, max 7)";

}  // namespace

TEST_CASE("after a bad label states are what they were before its batch, and the next batch updates them") {
  const States states;
  batch(states.first, states.second, label(1));
  states.check(1);
  CHECK_THROWS_WITH_AS(batch(states.first, states.second, label(7)).item(), text, LabelError);
  states.check(1);
  CHECK(batch(states.first, states.second, label(3)).item() == 1);
  states.check(2);
}

TEST_CASE("a bad label in any call of a Step puts its states back: in the first, the recorded and replayed ones") {
  for (const Replay mode : {Replay::off, Replay::on, Replay::verify}) {
    const Replay before = replay();
    set_replay(mode);
    for (int bad = 0; bad < 5; ++bad) {
      CAPTURE(bad);
      const States states;
      Step step([&](const Tensor& target) { return batch(states.first, states.second, target); });
      for (int call = 0; call < 6; ++call) {
        const Tensor target = label(call == bad ? 7 : 2);
        if (call == bad) CHECK_THROWS_WITH_AS(step(target).item(), text, LabelError);
        else CHECK(step(target).item() == 1);
        states.check(call < bad ? call + 1 : call);
      }
    }
    set_replay(before);
  }
}

TEST_CASE("batches between a bad label and the wait that tells of it change nothing") {
  const States states;
  batch(states.first, states.second, label(0));
  for (const int64_t value : {7, 1, 5, 2}) batch(states.first, states.second, label(value));
  CHECK_THROWS_WITH_AS(states.first.item(), text, LabelError);  // the first one
  states.check(1);
}

TEST_CASE("states are put back in every order of threads") {
  in_every_order([] {
    const States states;
    batch(states.first, states.second, label(7));
    CHECK_THROWS_AS(states.first.item(), LabelError);
    states.check(0);
    return states.first;
  });
}

TEST_CASE("a state that no tape knows of stays updated") {
  const States states;
  apply(count_op, {images(), states.first});
  apply(judge_op, {images(), label(7)});
  CHECK_THROWS_AS(states.first.item(), LabelError);
  CHECK(states.first.item() == 11);
}

TEST_CASE("a tape copies a state once, and gives the copy back with what it kept") {
  const States states;
  const size_t before = memory_stats(Device::cuda()).live_bytes;
  {
    Tape tape;
    tape.watch(images());
    const Tensor y = apply(count_op, {images(), states.first})[0];
    const size_t once = memory_stats(Device::cuda()).live_bytes;
    CHECK(once == before + 12 + 4);
    const Tensor z = apply(count_op, {y, states.first})[0];
    CHECK(memory_stats(Device::cuda()).live_bytes == once + 12);
  }
  CHECK(memory_stats(Device::cuda()).live_bytes == before);
}
