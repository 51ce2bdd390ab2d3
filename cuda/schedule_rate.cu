// schedule_rate on CUDA; ops/schedule_rate.h has the formula. One thread: the count and both rates stay on the device,
// so a replayed graph follows the schedule.
#include <cstdint>

#include <xent/cuda/call.cuh>
#include <xent/ops/schedule_rate.h>

namespace xent::cuda {

namespace {

__global__ void set_rate(const ErrorRecord* errors, float* rate, const float* base, const int64_t* count,
                         ScheduleOptions options) {
  if (errors->kind != ErrorRecord::Kind::none) return;
  *rate = static_cast<float>(static_cast<double>(*base) * factor_of(options, *count));
}

}  // namespace

void schedule_rate(const Call& call) {
  start(call, "schedule_rate", {1, 1}, set_rate, errors_of(call), call.in[0].as<float>(), call.in[1].as<float>(),
        call.in[2].as<int64_t>(), call.attrs.as<ScheduleAttrs>().options);
}

}  // namespace xent::cuda
