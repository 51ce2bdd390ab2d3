// ErrorRecord: how a kernel tells of a bad label. A GPU cannot throw: the first check that fails writes here, kernels
// that update weights, moments, statistics or counts do nothing while it is set, and whoever waits for the device next
// reads it, clears it, and gets the exception that the CPU would have thrown at once.
//
// All bytes zero: nothing is wrong. It is written by one thread of one block, after a reduction in a fixed order: the
// launches of a stream come one after the other, so the first error stays, and it is the same one in every run.
#pragma once

#include <cstdint>

namespace xent::cuda {

struct ErrorRecord {
  enum class Kind : int32_t { none, label, denominator, class_weight, element_weight, distribution, no_int };

  Kind kind = Kind::none;
  const char* op = nullptr;  // its name, in the host's memory: never read on the device
  int64_t row = 0;           // where the label, weight or distribution stands, the first bad one
  int64_t label = 0;
  int64_t classes = 0;
  int64_t least = 0, most = 0;  // of all labels that were checked: for a guess at what they mean, as on the CPU
  bool one_bad_value = false;   // all bad labels are the same number; of a distribution: its elements are in [0, 1]
  double denominator = 0;       // or the weight, what the distribution sums to, the label that fits no int
};

// Throws what the record says.
[[noreturn]] void throw_error(const ErrorRecord& record);

}  // namespace xent::cuda
