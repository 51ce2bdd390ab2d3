#include <xent/nn/schedule.h>

#include <string>

#include <xent/core/require.h>

namespace xent {

Schedule::Schedule(Optimizer& optimizer, const ScheduleOptions& options) : optimizer_(&optimizer), options_(options) {
  require<ArgumentError>(optimizer.groups() > 0, "Schedule: the optimizer has no parameters");
  for (size_t g = 0; g < optimizer.groups(); ++g) {
    const Tensor& rate = optimizer.group(g).learning_rate;
    bases_.push_back(Tensor::persistent("a schedule", {}, DType::f32, rate.device()));
    bases_.back().copy_from(rate);
  }
  count_ = Tensor::persistent("a schedule", {}, DType::i64, bases_[0].device());
  count_.fill(0);
  set_rates();
}

void Schedule::step() {
  require<ArgumentError>(optimizer_->groups() == bases_.size(),
                         "Schedule: made for {} groups of the optimizer, which has {} now; make it after add_group",
                         bases_.size(), optimizer_->groups());
  advance(count_);
  set_rates();
}

void Schedule::set_rates() {
  for (size_t g = 0; g < bases_.size(); ++g)
    schedule_rate(optimizer_->group(g).learning_rate, bases_[g], count_, options_);
}

std::vector<NamedTensor> Schedule::state() const {
  std::vector<NamedTensor> list{{"count", count_}};
  for (size_t g = 0; g < bases_.size(); ++g) list.push_back({std::to_string(g) + ".base", bases_[g]});
  return list;
}

}  // namespace xent
