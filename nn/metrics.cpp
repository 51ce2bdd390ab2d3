#include <xent/nn/metrics.h>

#include <limits>

#include <xent/core/step_state.h>
#include <xent/ops/ops.h>

namespace xent {

Metric::Metric(Device device) : state_(Tensor::persistent("a metric", {2}, DType::f64, device)) { state_.fill(0); }

double Metric::value() const {
  const std::vector<double> state = state_.to_vector<double>();
  return state[1] > 0 ? state[0] / state[1] : std::numeric_limits<double>::quiet_NaN();
}

int64_t Metric::count() const { return convert<int64_t>(state_.to_vector<double>()[1]); }

void Metric::reset() {
  require_outside_step("reset()", "reset the metric between the calls");
  state_.fill(0);
}

void Mean::add(const Tensor& value, int64_t count) { accumulate_mean(state_, value, count); }
void Accuracy::add(const Tensor& logits, const Tensor& labels) { accumulate_correct(state_, logits, labels); }

}  // namespace xent
