// The first half of Tape: its life, and recording.
#include <xent/core/tape.h>

#include <algorithm>
#include <atomic>

#include <xent/core/fill.h>
#include <xent/core/require.h>

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

uint64_t Tape::newest_recording(const Tape* except) {
  const Tape* tape = innermost;
  while (tape && (tape->finished_ || tape == except)) tape = tape->outer_;
  return tape ? tape->serial_ : 0;
}

bool Tape::on_own_thread() const { return thread_ == &innermost; }

// ---- record ----

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
  require<TapeError>(on_own_thread(), "watch: the tape belongs to another thread");
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

// ---- states ----

void Tape::save(const Tensor& state) {
  for (const auto& [saved, copy] : saved_)
    if (saved.raw() == state.raw()) return;  // what it was before this tape is what counts
  const Tensor copy = Tensor::empty(state.shape(), state.dtype(), state.device());
  launch_copy(copy, state);
  saved_.emplace_back(state, copy);
}

void Tape::put_back() const {
  for (const auto& [state, copy] : saved_) launch_put_back(state, copy);
}

}  // namespace xent
