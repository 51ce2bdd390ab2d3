// Joined: launches of one op, made one. To start a kernel takes a GPU as long as a small one runs, and an optimizer
// starts one per parameter.
//
//   Joined joined;
//   for (const Parameter& parameter : parameters) adam_step(...);  // kept; on the CPU, run
//   joined.launch();                                               // one kernel
//
// While it lives, a call on CUDA of an op that joins is kept instead of launched, with all checks and notes done. What
// is kept is launched before a call that it cannot be joined with: of another op, with other attributes, or which
// touches what a kept one updates. So the results are those of one launch each. Memory of the tensors must stay theirs
// until the launch; what an exception leaves behind is dropped.
#pragma once

#include <vector>

#include <xent/core/op.h>

namespace xent {

class Joined {
 public:
  Joined();
  ~Joined();
  Joined(const Joined&) = delete;  // the innermost of a thread counts; ends on its own thread
  Joined& operator=(const Joined&) = delete;

  void launch();  // what is kept

  // Called by launch(): keeps a call and says so, or launches what has to come before it.
  static bool keeps(const Op& op, const Kernel& kernel, const Call& call, Device device);

 private:
  bool can_take(const Op& op, const Call& call, Device device) const;

  const Op* op_ = nullptr;  // null: nothing is kept
  std::vector<Slice> in_;   // of all calls, one after the other
  Attrs attrs_;
  Device device_;
  Joined* outer_;
};

}  // namespace xent
