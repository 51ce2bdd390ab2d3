// Plan: what a Step has of one combination of input shapes: slots for the inputs, memory, and, once a call has been
// recorded, its launches, with a graph of them for each device that takes such. Private.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <xent/core/arena.h>
#include <xent/core/graph.h>
#include <xent/core/step_state.h>

namespace xent {

struct Plan {
  Tensors inputs;  // the plan's own slots: every launch reads from here
  Tensors results;
  std::shared_ptr<Arena> arena;
  std::optional<Recording> recording;
  std::vector<Graph> graphs;  // of the recorded launches on devices that take such; the others are started one by one
  uint64_t calls = 0;

  explicit Plan(std::span<const Tensor> given);

  bool serves(std::span<const Tensor> given) const;

  // Copies the inputs into the slots before the arena is put back: one may be a result of the last call.
  void begin_call(std::span<const Tensor> given);

  // Makes a call what is replayed from here on. Throws DeviceError, and keeps nothing, if it cannot be a graph.
  void keep(Recording recorded, const Tensors& returned);

  // Throws ReplayError at the first launch, or result, that is not as recorded; then the next call records afresh.
  void verify(const Recording& now, const Tensors& returned);
};

}  // namespace xent
