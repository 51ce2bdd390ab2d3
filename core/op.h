// Op: everything there is to know of an operation, as one constant. Kernel and Call: how it runs.
//
//   constinit const Op relu_op = {
//       .name = "relu", .formula = "y = max(x, 0)", .infer = same_as_input,
//       .forward = {cpu::relu}, .backward = {cpu::relu_grad},
//       .needs_in = 0,   // backward reads the output only, so the input's bytes can be dropped
//   };
//
// docs/adding_an_op.md walks through one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include <xent/core/device.h>
#include <xent/core/dtype.h>
#include <xent/core/inline_vector.h>
#include <xent/core/shape.h>
#include <xent/core/tensor.h>

namespace xent {

// The shape and dtype of an input or output. An optional input that was not given is not present.
struct Spec {
  Shape shape;
  DType dtype = DType::f32;
  bool present = true;

  explicit operator bool() const { return present; }
  friend bool operator==(const Spec&, const Spec&) = default;
};
using Specs = InlineVector<Spec, most_operands>;

// An op's own parameters: a trivially copyable struct with operator==, kept by value and typed by as<P>().
//
//   struct ScaleAttrs { double factor; bool operator==(const ScaleAttrs&) const = default; };
//   Attrs attrs = ScaleAttrs{0.5};
//   attrs.as<ScaleAttrs>().factor;
class Attrs {
 public:
  static constexpr size_t capacity = 160;

  Attrs() = default;
  template <class P>
    requires(!std::is_same_v<P, Attrs>)
  Attrs(const P& parameters) : type_(&type_of<P>) {  // implicit: apply(op, {x}, ScaleAttrs{0.5})
    static_assert(std::is_trivially_copyable_v<P> && sizeof(P) <= capacity && alignof(P) <= 8);
    std::memcpy(bytes_.data(), &parameters, sizeof(P));
  }

  template <class P>
  const P& as() const {
    if (type_ != &type_of<P>) throw ArgumentError("attributes of another op");
    return *reinterpret_cast<const P*>(bytes_.data());
  }

  friend bool operator==(const Attrs& a, const Attrs& b) {
    return a.type_ == b.type_ && (!a.type_ || a.type_->equal(a.bytes_.data(), b.bytes_.data()));
  }

 private:
  struct Type {
    bool (*equal)(const void*, const void*);
  };
  template <class P>
  static constexpr Type type_of = {[](const void* a, const void* b) {  // the same bytes are the same NaN
    return *static_cast<const P*>(a) == *static_cast<const P*>(b) || std::memcmp(a, b, sizeof(P)) == 0;
  }};

  alignas(8) std::array<std::byte, capacity> bytes_{};
  const Type* type_ = nullptr;
};

// One tensor as a kernel sees it. data is null for an optional input that was not given, for a kept tensor that
// backward said it does not need, and for a gradient that nobody wants or that did not arrive.
struct Slice {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  float beta = 0;  // of a grad_in: 0 writes, 1 adds to what is there, as in BLAS; 1 only for ops that accumulate

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

// What a kernel sees: slices and attributes, never a Tensor or a Tape. It writes every element of out (forward) or of
// the grad_in that have data (backward), and nothing else but the inputs its op says it updates.
struct Call {
  std::span<const Slice> in = {}, out = {};
  std::span<const Slice> grad_in = {}, grad_out = {};  // backward only
  Attrs attrs = {};
  void* workspace = nullptr;  // as many bytes as the device's workspace function said
  Stream stream = {};
};

using KernelFunction = void (*)(const Call&);

struct Kernel {
  KernelFunction cpu = nullptr;
  KernelFunction cuda = nullptr;
  size_t (*workspace)(const Call&) = nullptr;       // bytes of scratch on the CPU; reads shapes and attributes only
  size_t (*cuda_workspace)(const Call&) = nullptr;  // the same on CUDA

  explicit constexpr operator bool() const { return cpu || cuda; }
};

// Bit i stands for input or output i.
using Mask = uint32_t;
inline constexpr Mask everything = ~Mask{0};
inline constexpr Mask nothing = 0;

// Inputs that tests, documentation and benchmarks use.
struct Sample {
  std::vector<Tensor> inputs;
  Attrs attrs;
};
using Samples = std::vector<Sample>;

struct Op {
  const char* name;
  const char* formula;  // the line docs/ops.md prints
  int inputs = 1;       // at most most_operands, optional ones included

  // Checks inputs and attributes; returns the outputs' shapes and dtypes. Throws ShapeError or DTypeError.
  Specs (*infer)(std::span<const Spec> in, const Attrs& attrs);

  Kernel forward = {};
  Kernel backward = {};  // empty: not differentiable

  Mask optional = nothing;               // inputs that may be left out, as an empty handle
  Mask needs_in = everything;            // inputs that backward reads; the others' bytes are dropped
  Mask needs_out = everything;           // outputs likewise
  Mask differentiable = everything;      // inputs that can get a gradient
  Mask differentiable_out = everything;  // outputs that can bring one; to the tape the others are constants: statistics
  Mask updates = nothing;                // inputs written in place: moments, running statistics, weights. Those that a
                                         // differentiable op says get no gradient are constants to the tape
  bool accumulates = false;              // backward honours beta
  bool joins = false;                    // on CUDA forward takes the inputs of several calls in a row: core/join.h
  bool checks_labels = false;            // forward throws LabelError, or tells of one by the error record on CUDA

  // The output that holds the gradient of input 0 for an upstream of 1 at output 0, if it has elements. Backward hands
  // it on when output 0 is the root and no other input wants a gradient; else the kernel is run. -1: none.
  int ready_grad = -1;

  // For ops that compute nothing: the output is the input's bytes from this element on. Without a backward kernel the
  // gradient is a view as well, with the input's shape.
  int64_t (*view)(std::span<const Spec> in, const Attrs& attrs) = nullptr;

  Samples (*samples)(DType dtype) = nullptr;
};

// Applies an op: checks, takes memory, launches the forward kernel, and appends a node to this thread's tape if an
// input wants a gradient. An empty handle stands for an optional input that is not given.
//
//   Tensor relu(const Tensor& x) { return apply(relu_op, {x})[0]; }
Tensors apply(const Op& op, std::span<const Tensor> inputs, const Attrs& attrs = {});
inline Tensors apply(const Op& op, std::initializer_list<Tensor> inputs, const Attrs& attrs = {}) {
  return apply(op, std::span(inputs.begin(), inputs.size()), attrs);
}

// The one door through which every kernel starts: picks the device's function, takes the workspace, notes the launch
// if a Step is recording, runs it. Throws DeviceError if the op has no kernel there.
void launch(const Op& op, const Kernel& kernel, Call call, Device device);

// Describes a tensor to a kernel; an empty handle gives a slice without data.
Slice slice_of(const Tensor& tensor);

// The shape rule of elementwise ops: one floating input, one output like it.
Specs same_as_input(std::span<const Spec> in, const Attrs& attrs);

}  // namespace xent
