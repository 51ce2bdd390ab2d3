// Schedule: in which order the blocks of a grid, the threads of a block and the streams of the device run. CUDA
// promises none, so a kernel has to give the same result in all of them.
//
//   for (uint64_t seed = 0; seed < 8; ++seed) {
//     ScheduleScope scope({Order::shuffled, seed});
//     CHECK(result_of_kernel() == expected);
//   }
#pragma once

#include <cstdint>

namespace xent::emulator {

// last_block runs the last block of every grid and no other: what a kernel does at the far end of more than 2^31
// elements, in the time of one block.
enum class Order : uint8_t { forward, backward, shuffled, last_block };

struct Schedule {
  Order order = Order::forward;
  uint64_t seed = 0;  // of Order::shuffled
};

Schedule schedule();

// Sets the schedule of all that is run while it lives.
class ScheduleScope {
 public:
  explicit ScheduleScope(Schedule schedule);
  ~ScheduleScope();
  ScheduleScope(const ScheduleScope&) = delete;
  ScheduleScope& operator=(const ScheduleScope&) = delete;

 private:
  Schedule before_;
};

// The numbers of a schedule: splitmix64.
class Shuffler {
 public:
  explicit Shuffler(uint64_t seed) : state_(seed) {}

  // A number below count, which is not 0.
  uint64_t below(uint64_t count) {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % count;
  }

 private:
  uint64_t state_;
};

}  // namespace xent::emulator
