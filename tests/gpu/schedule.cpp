// The emulator's schedules for a real GPU, which has its own: tests ask for an order, and get whatever comes. That
// three runs must have the same bits is a test there too.
#include <utility>

#include <xent/cuda/emulator/schedule.h>

namespace xent::emulator {

namespace {
Schedule current;
}

Schedule schedule() { return current; }
ScheduleScope::ScheduleScope(Schedule schedule) : before_(std::exchange(current, schedule)) {}
ScheduleScope::~ScheduleScope() { current = before_; }

}  // namespace xent::emulator
