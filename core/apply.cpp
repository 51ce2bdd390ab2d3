// apply and launch: what happens between calling an op and its kernel running.
#include <algorithm>
#include <cstddef>

#include <xent/core/join.h>
#include <xent/core/memory.h>
#include <xent/core/op.h>
#include <xent/core/overlap.h>
#include <xent/core/profile.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

// Describes the inputs and checks that they are there, on one device.
Specs specs_of(const Op& op, std::span<const Tensor> inputs, Device& device) {
  require<ArgumentError>(inputs.size() == static_cast<size_t>(op.inputs), "{}: takes {} inputs, got {}", op.name,
                         op.inputs, inputs.size());
  Specs specs;
  size_t first = inputs.size();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& input = inputs[i];
    require<ArgumentError>(input || op.optional >> i & 1, "{}: input {} is an empty tensor handle", op.name, i);
    specs.push_back({input.shape(), input.dtype(), static_cast<bool>(input)});
    if (!input) continue;
    if (first == inputs.size()) first = i;
    const Tensor& other = inputs[first];
    require<DeviceError>(input.device() == other.device(), "{}: input {} {} {} is on {}, input {} {} {} on {}; {}",
                         op.name, first, other.dtype(), other.shape(), other.device(), i, input.dtype(), input.shape(),
                         input.device(),
                         op.updates == nothing ? "move one with .to(device)"
                                               : "make the state there: Mean(device), Generator(seed, device)");
  }
  if (first < inputs.size()) device = inputs[first].device();
  return specs;
}

// Says whether two slices share some bytes, but are not the same ones all through.
bool partly_overlap(const Slice& a, const Slice& b) {
  return overlap(a, b) && !(a.data == b.data && end_of(a) == end_of(b));
}

void run_forward(const Op& op, std::span<const Tensor> inputs, const Tensors& outputs, const Attrs& attrs,
                 Device device) {
  InlineVector<Slice, most_operands> in, out;
  for (const Tensor& input : inputs) {
    in.push_back(slice_of(input));
    note_use(input);
  }
  for (const Tensor& output : outputs) out.push_back(slice_of(output));
  const auto updated = [&](size_t i) { return op.updates >> i & 1 && inputs[i]; };
  // A kernel that writes an input element by element may read another name of the same bytes. But it may not write them
  // twice, and a backward would read them too late.
  const auto same = [&](size_t i, size_t j) {
    return i != j && in[i].data == in[j].data && (op.backward || (updated(j) && in[j].shape.elements() > 0));
  };
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t j = 0; updated(i) && j < inputs.size(); ++j)
      require<ArgumentError>(!in[j] || !(partly_overlap(in[i], in[j]) || same(i, j)),
                             "{}: inputs {} and {} overlap in memory, and {} is updated", op.name, i, j, i);
  // What a differentiable op writes to an input without a gradient is a constant to every tape, as are its outputs
  // without one: running statistics, a generator's state.
  const auto constant = [&](size_t i) { return op.backward && !(op.differentiable >> i & 1); };
  for (size_t i = 0; i < inputs.size(); ++i)  // before the kernel, which may throw half-way
    if (updated(i)) note_update(inputs[i], constant(i) ? std::span<const Tensor>() : inputs);
  // There an error is told of when the host waits next. States that were updated on the way to it are put back.
  Tape* tape = device.kind == Device::Kind::cuda ? Tape::recording() : nullptr;
  for (size_t i = 0; tape && i < inputs.size(); ++i)
    if (updated(i) && constant(i)) tape->save(inputs[i]);
  launch(op, op.forward, {.in = {in.data(), in.size()}, .out = {out.data(), out.size()}, .attrs = attrs}, device);
  if (tape && op.checks_labels) tape->put_back();
}

}  // namespace

Slice slice_of(const Tensor& tensor) {
  return {.data = tensor ? tensor.raw() : nullptr, .shape = tensor.shape(), .dtype = tensor.dtype()};
}

Tensors apply(const Op& op, std::span<const Tensor> inputs, const Attrs& attrs) {
  Device device;
  const Specs in = specs_of(op, inputs, device);
  const std::span<const Spec> in_specs(in.data(), in.size());
  const Specs out = op.infer(in_specs, attrs);

  Tape* tape = Tape::recording();
  Tensors outputs;
  if (op.view) {
    inputs[0].raw();  // a stale or empty handle is found here, not by whoever reads the view
    outputs.push_back(inputs[0].view(out[0].shape, op.view(in_specs, attrs)));
  } else {
    for (const Spec& spec : out) outputs.push_back(Tensor::empty(spec.shape, spec.dtype, device));
  }
  if (tape) tape->check_inputs(op, inputs, outputs);
  if (!op.view) run_forward(op, inputs, outputs, attrs, device);

  for (Tensor& output : outputs)
    for (const Tensor& input : inputs) output.mark_opaque(input.opaque_to());
  if (tape) tape->record(op, attrs, inputs, outputs);
  return outputs;
}

void launch(const Op& op, const Kernel& kernel, Call call, Device device) {
  if (Joined::keeps(op, kernel, call, device)) return;
  const bool on_cuda = device.kind == Device::Kind::cuda;
  const KernelFunction function = on_cuda ? kernel.cuda : kernel.cpu;
  require<DeviceError>(function != nullptr, "{}: the op's .{} has no {} kernel; give it one: docs/adding_an_op.md",
                       op.name, &kernel == &op.backward ? "backward" : "forward", on_cuda ? "CUDA" : "CPU");
  StorageRef workspace;  // given back after the launch: later launches of the same stream may have it
  if (const auto workspace_bytes = on_cuda ? kernel.cuda_workspace : kernel.workspace) {
    workspace = Storage::allocate(workspace_bytes(call), device);
    call.workspace = workspace->data();
  }
  if (on_cuda) call.stream = memory(device).stream(device.index);
  if (StepState* step = running_step(); step && step->recording)
    step->recording->launches.emplace_back(op, function, call, device);
  run_kernel(op, function, call, device);
}

Specs same_as_input(std::span<const Spec> in, const Attrs&) {
  require<DTypeError>(is_computable(in[0].dtype), "ops compute in f32 and f64, not {}; cast first", in[0].dtype);
  return {in[0]};
}

}  // namespace xent
