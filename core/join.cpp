#include <xent/core/join.h>

#include <utility>

#include <xent/core/overlap.h>

namespace xent {

namespace {

thread_local Joined* innermost = nullptr;

}  // namespace

Joined::Joined() : outer_(std::exchange(innermost, this)) {}
Joined::~Joined() { innermost = outer_; }

bool Joined::keeps(const Op& op, const Kernel& kernel, const Call& call, Device device) {
  Joined* const joined = innermost;
  if (!joined) return false;
  const bool joins = op.joins && &kernel == &op.forward && device.kind == Device::Kind::cuda;
  if (!joins || !joined->can_take(op, call, device)) joined->launch();
  if (!joins) return false;
  joined->op_ = &op;
  joined->attrs_ = call.attrs;
  joined->device_ = device;
  joined->in_.insert(joined->in_.end(), call.in.begin(), call.in.end());
  return true;
}

bool Joined::can_take(const Op& op, const Call& call, Device device) const {
  if (!op_) return true;
  if (op_ != &op || device_ != device || attrs_ != call.attrs) return false;
  const auto updated = [&](size_t i) { return op.updates >> i % call.in.size() & 1; };
  for (size_t i = 0; i < in_.size(); ++i)
    for (size_t j = 0; j < call.in.size(); ++j)
      if ((updated(i) || updated(j)) && overlap(in_[i], call.in[j])) return false;
  return true;
}

void Joined::launch() {
  if (!op_) return;
  const Op& op = *std::exchange(op_, nullptr);
  const std::vector<Slice> in = std::exchange(in_, {});
  innermost = nullptr;  // this one is not kept again
  const struct Back {
    Joined* joined;
    ~Back() { innermost = joined; }
  } back{this};
  xent::launch(op, op.forward, {.in = in, .attrs = attrs_}, device_);
}

}  // namespace xent
