#include <xent/core/tape.h>

#include <algorithm>
#include <atomic>
#include <unordered_set>

#include <xent/core/fill.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>

namespace xent {

namespace {

thread_local Tape* innermost = nullptr;

uint64_t next_serial() {
  static std::atomic<uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

bool bit(Mask mask, size_t i) { return mask >> i & 1; }

// Says whether an op's output i can bring a gradient, and whether any can.
bool carries(const Op& op, const Tensors& outputs, size_t i) {
  return bit(op.differentiable_out, i) && is_floating(outputs[i].dtype());
}
bool differentiable(const Op& op, const Tensors& outputs) {
  bool any = false;
  for (size_t i = 0; i < outputs.size(); ++i) any |= carries(op, outputs, i);
  return any && (op.backward || op.view);
}

}  // namespace

Tape::Tape() : serial_(next_serial()), outer_(innermost), thread_(&innermost) { innermost = this; }

Tape::~Tape() {
  // Tapes end in reverse order unless they live on the heap; then this one is taken out of the middle.
  for (Tape** link = &innermost; *link; link = &(*link)->outer_)
    if (*link == this) {
      *link = outer_;
      break;
    }
}

Tape* Tape::recording() {
  Tape* tape = innermost;
  while (tape && tape->finished_) tape = tape->outer_;  // a tape that is done steps aside
  return tape && !tape->in_backward_ ? tape : nullptr;
}

uint64_t Tape::wanting(const Tensor& x) {
  for (const Tape* tape = innermost; tape; tape = tape->outer_)
    if (!tape->finished_ && (x.requires_grad() || tape->slot_of(x) >= 0)) return tape->serial_;
  return 0;
}

uint64_t Tape::newest_recording(const Tape* tape, const Tape* except) {
  while (tape && (tape->finished_ || tape == except)) tape = tape->outer_;
  return tape ? tape->serial_ : 0;
}

// ---- forward: record ----

int Tape::slot_of(const Tensor& x) const {
  const auto found = std::ranges::lower_bound(slot_by_id_, x.id(), {}, &std::pair<uint64_t, int>::first);
  return found == slot_by_id_.end() || found->first != x.id() ? -1 : found->second;
}

int Tape::add_slot(const Tensor& x, bool wanted) {
  auto found = std::ranges::lower_bound(slot_by_id_, x.id(), {}, &std::pair<uint64_t, int>::first);
  if (found == slot_by_id_.end() || found->first != x.id()) {
    found = slot_by_id_.insert(found, {x.id(), static_cast<int>(slots_.size())});
    slots_.push_back({.id = x.id()});
  }
  Slot& slot = slots_[static_cast<size_t>(found->second)];
  slot.wanted = slot.wanted || wanted;
  return found->second;
}

void Tape::watch(const Tensor& x) {
  require<ArgumentError>(static_cast<bool>(x), "watch: an empty tensor handle");
  require<DTypeError>(is_floating(x.dtype()), "watch: a tensor of {} has no gradient", x.dtype());
  require<TapeError>(thread_ == &innermost, "watch: the tape belongs to another thread");
  require<TapeError>(!finished_, "watch: backward has run on this tape already; make a new one");
  add_slot(x, true);
}

void Tape::check_inputs(const Op& op, std::span<const Tensor> inputs, const Tensors& outputs) const {
  const auto wanted = [&](const Tensor& input) { return wants(input); };
  if (!differentiable(op, outputs) || std::ranges::none_of(inputs, wanted)) return;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& input = inputs[i];
    require<TapeError>(!wants(input) || bit(op.differentiable, i),
                       "{}: there is no gradient for input {} of shape {}; detach() it", op.name, i, input.shape());
    require<TapeError>(!(input && bit(op.updates, i) && bit(op.differentiable, i)),
                       "{}: updates input {} of shape {}, and an in-place write has no derivative; detach() the inputs",
                       op.name, i, input.shape());
    if (const int slot = input ? slot_of(input) : -1; slot >= 0) {
      const Slot& computed = slots_[static_cast<size_t>(slot)];
      require<TapeError>(
          !computed.result || computed.version == input.storage()->version(),
          "{}: input {} of shape {} was written in place since it was recorded; detach() it to use it as a constant",
          op.name, i, input.shape());
    }
    require<TapeError>(input.opaque_to() < serial_,
                       "{}: input {} of shape {} was computed out of this tape's sight, by a backward or under another "
                       "tape. Only first derivatives are supported; detach() it to use it as a constant",
                       op.name, i, input.shape());
  }
}

void Tape::record(const Op& op, const Attrs& attrs, std::span<const Tensor> inputs, Tensors& outputs) {
  if (!differentiable(op, outputs)) return;
  InlineVector<int, most_operands> in_slots;
  bool wanted = false;
  for (const Tensor& input : inputs) {
    in_slots.push_back(!wants(input) ? -1 : input.requires_grad() ? add_slot(input, true) : slot_of(input));
    wanted |= in_slots[in_slots.size() - 1] >= 0;
  }
  // Tapes around this one do not see the op, though they may know its inputs.
  for (const Tape* tape = outer_; tape; tape = tape->outer_) {
    const auto knows = [&](const Tensor& input) { return tape->slot_of(input) >= 0; };
    if (tape->finished_ || !(wanted || std::ranges::any_of(inputs, knows))) continue;
    for (Tensor& output : outputs) output.mark_opaque(tape->serial_);
    break;
  }
  if (!wanted) return;

  Node node{.op = &op, .attrs = attrs, .in = {}, .out = {}};
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& input = inputs[i];
    const bool keep = input && bit(op.needs_in, i);
    node.in.push_back({keep ? input : input.without_bytes(), input ? input.storage()->version() : 0, in_slots[i]});
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& output = outputs[i];
    const bool keep = bit(op.needs_out, i) && !op.view;
    const uint64_t version = output.storage()->version();
    const int slot = carries(op, outputs, i) ? add_slot(output, false) : -1;
    if (slot >= 0) {
      slots_[static_cast<size_t>(slot)].result = true;
      slots_[static_cast<size_t>(slot)].version = version;
    }
    node.out.push_back({keep ? output : output.without_bytes(), version, slot});
  }
  nodes_.push_back(std::move(node));
}

// ---- backward: replay the nodes in reverse; order of creation is a topological order already ----

Gradients Tape::backward(const Tensor& root, const BackwardOptions& options) {
  Gradients gradients;
  backward(root, gradients, options);
  return gradients;
}

void Tape::check(const Tensor& root, const Gradients& into, const BackwardOptions& options) const {
  require<ArgumentError>(static_cast<bool>(root), "backward: an empty tensor handle");
  require<TapeError>(thread_ == &innermost, "backward: the tape belongs to another thread");
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
  if (ready && node.out[0].slot == seed) {
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
  const uint64_t recording = newest_recording(innermost, retain ? nullptr : this);
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
