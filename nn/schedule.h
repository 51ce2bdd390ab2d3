// Schedule: changes an optimizer's learning rates over time.
//
//   Adam optimizer(model.parameters(), {.learning_rate = 1e-3});
//   Schedule schedule(optimizer, {.decay = Decay::cosine, .warmup = 100, .steps = 4690});
//   Step train_step([&](const Tensor& images, const Tensor& labels) {
//     ...
//     optimizer.step(tape.backward(loss));
//     schedule.step();  // per step; or once per epoch, outside
//   });
//
// Count and base rates are on the device: a replayed Step follows the schedule. ScheduleOptions, in ops/ops.h, has the
// kinds: constant, step, linear, cosine, each after a linear warm-up.
#pragma once

#include <vector>

#include <xent/core/tensor.h>
#include <xent/nn/module.h>
#include <xent/nn/optimizer.h>

namespace xent {

class Schedule {
 public:
  // Takes the rate that each group has now as its base, and sets the rate of the first step. The optimizer must outlive
  // the schedule. Make it before a checkpoint is loaded, which brings base and rate of its own. Throws ArgumentError
  // for options out of range, ReplayError inside a Step.
  explicit Schedule(Optimizer& optimizer, const ScheduleOptions& options = {});
  Schedule(const Schedule&) = delete;  // two of them would set the same rates
  Schedule& operator=(const Schedule&) = delete;

  // Sets the rates of the next step, whatever set_learning_rate() made of them. Throws ArgumentError if groups were
  // added to the optimizer since: they would silently keep their rate.
  void step();

  int64_t count() const { return count_.item<int64_t>(); }  // steps taken; waits for the device

  // Lists the count and the base rates: what a checkpoint keeps of a schedule.
  std::vector<NamedTensor> state() const;

 private:
  void set_rates();

  Optimizer* optimizer_;
  ScheduleOptions options_;
  Tensor count_;               // i64 []
  std::vector<Tensor> bases_;  // f32 [], one per group
};

}  // namespace xent
