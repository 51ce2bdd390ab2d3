// StepState: what the engine knows of the Step that runs on this thread, if one does.
#pragma once

#include <cstdint>
#include <vector>

#include <xent/core/op.h>

namespace xent {

// One launch as a plan keeps it: the call's slices are copied, so it can be run again.
struct Launch {
  const Op* op = nullptr;
  KernelFunction function = nullptr;
  Device device;
  std::vector<Slice> slices;  // in, out, grad_in, grad_out, one after the other
  std::array<size_t, 4> counts{};
  Attrs attrs;
  void* workspace = nullptr;
  Stream stream;

  Launch(const Op& op, KernelFunction function, const Call& call, Device where);
  Call call() const;
  bool backward() const { return counts[3] != 0; }
};

// The launches of one call, and the storages outside the arena that they use.
struct Recording {
  std::vector<Launch> launches;
  std::vector<StorageRef> held;     // kept alive as long as the plan is
  std::vector<StorageRef> updated;  // written in place, once per write: replay bumps their versions
};

struct StepState {
  Recording* recording = nullptr;  // null in a call that only runs
};

// Returns the state of the Step running on this thread, or null.
StepState* running_step();
void set_running_step(StepState* state);

// Throws ReplayError if a Step runs on this thread: "item() inside a Step would freeze ...".
void require_outside_step(const char* who, const char* way_out);

// Tells a running Step that a launch uses these bytes, or writes them in place; the latter also bumps the version.
// Throws ReplayError if they belong to another plan, whose next call reuses them unseen.
void note_use(const Tensor& tensor);
void note_update(const Tensor& tensor, std::span<const Tensor> from = {});

}  // namespace xent
