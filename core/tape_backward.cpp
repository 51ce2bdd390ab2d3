// The second half of Tape: the nodes replayed in reverse. The order in which they were made is a topological order.
#include <algorithm>
#include <unordered_set>

#include <xent/core/fill.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/core/tape.h>

namespace xent {

Gradients Tape::backward(const Tensor& root, const BackwardOptions& options) {
  Gradients gradients;
  backward(root, gradients, options);
  return gradients;
}

void Tape::check(const Tensor& root, const Gradients& into, const BackwardOptions& options) const {
  require<ArgumentError>(static_cast<bool>(root), "backward: an empty tensor handle");
  require<TapeError>(on_own_thread(), "backward: the tape belongs to another thread");
  require<TapeError>(
      !finished_,
      "backward: called twice on one tape, which released what it kept; make a new Tape for each forward pass, or pass "
      "{{.retain = true}} to go back through the same one again");
  require<TapeError>(
      !nodes_.empty() || slot_of(root) >= 0,
      "backward: this tape recorded nothing; make it before computing, then watch() what is to get a gradient "
      "(parameters need no watch; x = x - ... makes a new tensor, which is none)");
  const int root_slot = slot_of(root);
  require<TapeError>(
      root_slot >= 0,
      "backward: the root of shape {} was not computed on this tape from a parameter, or from a tensor watched "
      "before it was used",
      root.shape());
  const Slot& computed = slots_[static_cast<size_t>(root_slot)];
  require<TapeError>(!computed.result || computed.version == root.storage()->version(),
                     "backward: the root of shape {} was written in place since it was recorded", root.shape());
  if (!options.upstream) {
    require<ShapeError>(root.elements() == 1,
                        "backward: the root has shape {}; reduce it to one element, or pass an upstream gradient",
                        root.shape());
  } else {
    require<ShapeError>(options.upstream.shape() == root.shape(), "backward: upstream gradient {} for a root {}",
                        options.upstream.shape(), root.shape());
    require<DTypeError>(options.upstream.dtype() == root.dtype(), "backward: upstream gradient of {} for a root of {}",
                        options.upstream.dtype(), root.dtype());
  }
  std::unordered_set<StorageRef> added_to;  // what this backward writes, so it must not read it
  for (const Slot& slot : slots_)
    if (const Tensor* gradient = slot.wanted ? into.find(slot.id) : nullptr) added_to.insert(gradient->storage());
  require<TapeError>(!added_to.contains(options.upstream.storage()),
                     "backward: the upstream gradient is among the gradients to add to; clone() it");
  for (const Node& node : nodes_)
    for (const auto* part : {&node.in, &node.out})
      for (const Kept& kept : *part) {
        if (!kept.tensor) continue;
        require<TapeError>(
            kept.tensor.storage()->version() == kept.version,
            "backward: {} kept a tensor of shape {} that was written in place since; clone() it before writing",
            node.op->name, kept.tensor.shape());
        require<TapeError>(
            !added_to.contains(kept.tensor.storage()),
            "backward: {} kept a tensor of shape {} that is among the gradients to add to; clone() it before using it",
            node.op->name, kept.tensor.shape());
      }
}

void Tape::backward(const Tensor& root, Gradients& into, const BackwardOptions& options) {
  check(root, into, options);
  for (Slot& slot : slots_) {  // a result's gradient is sent on, so what was there before is added in the end
    const Tensor* existing = slot.wanted && !slot.result ? into.find(slot.id) : nullptr;
    slot.in_place = existing != nullptr;
    slot.gradient = existing ? *existing : Tensor();
    if (slot.in_place) note_update(slot.gradient);
  }
  struct Finish {  // also when a kernel throws
    Tape& tape;
    bool retain;
    ~Finish() {
      for (Slot& slot : tape.slots_) slot.gradient = Tensor();
      if (!retain) tape.nodes_.clear();
      if (!retain) tape.saved_.clear();
      tape.finished_ = !retain;
      tape.in_backward_ = false;
    }
  } finish{*this, options.retain};
  in_backward_ = true;

  const int seed = options.upstream ? -1 : slot_of(root);
  add_gradient(slots_[static_cast<size_t>(slot_of(root))],
               options.upstream ? options.upstream : Tensor::ones(root.shape(), root.dtype(), root.device()));
  for (size_t i = nodes_.size(); i-- > 0;) {
    run(nodes_[i], seed, options.retain);
    for (const Kept& out : nodes_[i].out) {  // all that read it come later and are done
      if (out.slot < 0) continue;
      Slot& slot = slots_[static_cast<size_t>(out.slot)];
      if (!slot.wanted) slot.gradient = Tensor();
    }
    if (!options.retain) nodes_[i].in = nodes_[i].out = {};
  }
  collect(into, options.retain);
}

bool Tape::owned(const Slot& slot) { return slot.in_place || slot.gradient.storage().use_count() == 1; }

// seed: the slot of a root whose upstream is the implied 1; -1 if there is none.
void Tape::run(const Node& node, int seed, bool retain) {
  InlineVector<Slice, most_operands> in, out, grad_in, grad_out;
  const Tensor none;
  bool arrived = false;
  for (const Kept& kept : node.out) {
    out.push_back(slice_of(kept.tensor));
    const Tensor& gradient = kept.slot >= 0 ? slots_[static_cast<size_t>(kept.slot)].gradient : none;
    note_use(gradient);
    grad_out.push_back(gradient ? slice_of(gradient)
                                : Slice{.shape = kept.tensor.shape(), .dtype = kept.tensor.dtype()});
    arrived |= static_cast<bool>(gradient);
  }
  if (!arrived) return;

  const Op& op = *node.op;
  if (op.view && !op.backward) {
    const Tensor& gradient = slots_[static_cast<size_t>(node.out[0].slot)].gradient;
    add_gradient(slots_[static_cast<size_t>(node.in[0].slot)], gradient.view(node.in[0].tensor.shape(), 0));
    return;
  }

  Tensor ready;  // what forward wrote: handed on, or the place where backward writes what it should have been
  if (op.ready_grad >= 0 && node.out[static_cast<size_t>(op.ready_grad)].tensor.elements() > 0)
    ready = node.out[static_cast<size_t>(op.ready_grad)].tensor;
  const auto wanting = std::ranges::count_if(node.in, [](const Kept& kept) { return kept.slot >= 0; });
  if (ready && node.out[0].slot == seed && wanting == 1 && node.in[0].slot >= 0) {
    add_gradient(slots_[static_cast<size_t>(node.in[0].slot)], std::move(ready));
    return;
  }

  Tensors fresh;  // where an input's gradient goes; empty: none, or straight into the slot
  Device device;
  for (const Kept& kept : node.out)
    if (kept.slot >= 0 && slots_[static_cast<size_t>(kept.slot)].gradient)
      device = slots_[static_cast<size_t>(kept.slot)].gradient.device();
  for (size_t i = 0; i < node.in.size(); ++i) {
    const Kept& kept = node.in[i];
    in.push_back(slice_of(kept.tensor));
    note_use(kept.tensor);
    Slice target = {.shape = kept.tensor.shape(), .dtype = kept.tensor.dtype()};
    fresh.push_back({});
    if (kept.slot >= 0) {
      const Slot& slot = slots_[static_cast<size_t>(kept.slot)];
      bool taken = false;  // the same tensor may be two inputs of one op: mul(x, x)
      for (size_t j = 0; j < i; ++j) taken |= node.in[j].slot == kept.slot;
      if (op.accumulates && slot.gradient && !taken && owned(slot)) {
        target.beta = 1;
        target.data = slot.gradient.raw();
        note_use(slot.gradient);
      } else {
        fresh[i] = i == 0 && ready && !retain ? std::move(ready) : Tensor::empty(target.shape, target.dtype, device);
        target.data = fresh[i].raw();
      }
    }
    grad_in.push_back(target);
  }
  launch(op, op.backward,
         {.in = {in.data(), in.size()},
          .out = {out.data(), out.size()},
          .grad_in = {grad_in.data(), grad_in.size()},
          .grad_out = {grad_out.data(), grad_out.size()},
          .attrs = node.attrs},
         device);
  for (size_t i = 0; i < fresh.size(); ++i)
    if (fresh[i]) add_gradient(slots_[static_cast<size_t>(node.in[i].slot)], std::exchange(fresh[i], Tensor()));
}

// The first gradient to arrive is stored, the next ones are added; nothing is zeroed first.
void Tape::add_gradient(Slot& slot, Tensor gradient) {
  if (!slot.gradient) {
    slot.gradient = std::move(gradient);
  } else if (owned(slot)) {
    launch_accumulate(slot.gradient, gradient);
  } else {  // somebody else reads what is there: a view, or the caller's upstream
    Tensor total = Tensor::empty(gradient.shape(), gradient.dtype(), gradient.device());
    launch_copy(total, slot.gradient);
    launch_accumulate(total, gradient);
    slot.gradient = std::move(total);
  }
}

void Tape::collect(Gradients& into, bool retain) {
  // Under a tape that still records, a use of these gradients would need a second derivative: mark them, so it can
  // refuse.
  const uint64_t recording = newest_recording(retain ? nullptr : this);
  for (Slot& slot : slots_) {
    if (!slot.wanted || !slot.gradient) continue;
    Tensor gradient = std::exchange(slot.gradient, Tensor());
    if (const Tensor* existing = into.find(slot.id)) {
      if (!slot.in_place) {
        launch_accumulate(*existing, gradient);
        note_update(*existing);
      }
      gradient = *existing;
    } else if (gradient.storage().use_count() > 1) {  // shared with another gradient or the upstream: own bytes
      Tensor copy = Tensor::empty(gradient.shape(), gradient.dtype(), gradient.device());
      launch_copy(copy, gradient);
      gradient = std::move(copy);
    }
    into.set(slot.id, std::move(gradient.mark_opaque(recording)));
  }
}

}  // namespace xent
