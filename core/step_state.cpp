#include <xent/core/step_state.h>

#include <algorithm>

#include <xent/core/arena.h>
#include <xent/core/require.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

thread_local StepState* state = nullptr;

}  // namespace

StepState* running_step() { return state; }
void set_running_step(StepState* next) { state = next; }

void require_outside_step(const char* who, const char* way_out) {
  require<ReplayError>(!state, "{} inside a Step would freeze the value of this call; {}", who, way_out);
}

void note_use(const Tensor& tensor) {
  if (!state || !tensor) return;
  const Arena* arena = tensor.storage()->arena();
  require<ReplayError>(
      !arena || (Arena::current() && arena == &Arena::current()->on(arena->device())),
      "tensor {} was made in a Step for other shapes, or in another Step, which will reuse its memory; "
      "pass it as an input, or capture a .clone() of it",
      tensor.shape());
  if (state->recording && !arena) state->recording->held.push_back(tensor.storage());
}

void note_update(const Tensor& tensor, std::span<const Tensor> from) {
  note_use(tensor);
  const StorageRef& storage = tensor.storage();
  storage->bump_version();
  for (const Tensor& source : from)
    if (source) storage->mark_opaque(std::max(source.opaque_to(), Tape::wanting(source)));
  if (state && state->recording) state->recording->updated.push_back(storage);
}

Launch::Launch(const Op& launched, KernelFunction kernel, const Call& call, Device where)
    : op(&launched),
      function(kernel),
      device(where),
      counts{call.in.size(), call.out.size(), call.grad_in.size(), call.grad_out.size()},
      attrs(call.attrs),
      workspace(call.workspace),
      stream(call.stream) {
  slices.reserve(counts[0] + counts[1] + counts[2] + counts[3]);
  for (const auto part : {call.in, call.out, call.grad_in, call.grad_out})
    slices.insert(slices.end(), part.begin(), part.end());
}

Call Launch::call() const {
  const Slice* next = slices.data();
  const auto take = [&](size_t count) {
    const std::span<const Slice> part(next, count);
    next += count;
    return part;
  };
  Call call;
  call.in = take(counts[0]);
  call.out = take(counts[1]);
  call.grad_in = take(counts[2]);
  call.grad_out = take(counts[3]);
  call.attrs = attrs;
  call.workspace = workspace;
  call.stream = stream;
  return call;
}

}  // namespace xent
