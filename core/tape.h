// Tape: records the ops applied while it lives and computes gradients by walking them backwards.
//
//   Tensor x = Tensor::from({3}, {1});
//   Tape tape;
//   tape.watch(x);
//   Tensor y = sum(x * x);
//   Gradients gradients = tape.backward(y);
//   gradients[x].item();  // 6
//
// An op is recorded if one of its inputs wants a gradient: a parameter (set_requires_grad), a watched tensor, or the
// output of a recorded op. Without a living tape nothing is recorded, so evaluation needs no switch. Tapes belong to
// their thread, also at their end, and nest: the innermost records. docs/tape.md tells more.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <xent/core/op.h>
#include <xent/core/tensor.h>

namespace xent {

// The gradients of one or more backward passes, by the tensor they belong to. A value: no tensor has a .grad, so none
// has to be zeroed.
class Gradients {
 public:
  // Makes zero gradients that outlive a Step's calls, to accumulate into. Throws ReplayError inside a Step.
  static Gradients zeros(std::span<const Tensor> tensors);

  // Returns the gradient for x. Throws TapeError if x got none: it was not watched, or the loss does not depend on it.
  const Tensor& operator[](const Tensor& x) const;
  const Tensor* find(const Tensor& x) const;  // null if there is none
  bool contains(const Tensor& x) const { return find(x) != nullptr; }

  void set(const Tensor& x, Tensor gradient);
  void fill(double value);  // in place: fill(0) starts the next accumulation

  size_t size() const { return entries_.size(); }
  auto begin() const { return entries_.begin(); }  // pairs of tensor id and gradient, by id
  auto end() const { return entries_.end(); }

 private:
  friend class Tape;
  const Tensor* find(uint64_t id) const;
  void set(uint64_t id, Tensor gradient);
  std::vector<std::pair<uint64_t, Tensor>> entries_;  // sorted by id
};

struct BackwardOptions {
  Tensor upstream = {};  // the gradient that arrives at the root; needed unless the root has one element
  bool retain = false;   // keep what backward needs for another backward on this tape
};

class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // Wants the gradient for x, a leaf or a result. Throws DTypeError for integers.
  void watch(const Tensor& x);

  // Computes the gradients of root for every parameter and watched tensor that it depends on.
  // Throws TapeError if root was not computed on this tape, if backward ran already (without retain), or if a tensor
  // that was kept has been written in place since; ShapeError if root has more than one element and no upstream.
  Gradients backward(const Tensor& root, const BackwardOptions& options = {});

  // The same, adding to the gradients that are there already: K calls accumulate K micro-batches. If a kernel throws on
  // the way, some of them have been added to: fill(0) and start again.
  void backward(const Tensor& root, Gradients& into, const BackwardOptions& options = {});

  // Returns a table of what is recorded: op, shapes, the tensors kept for backward and their bytes.
  std::string print() const;
  size_t size() const { return nodes_.size(); }
  size_t kept_bytes() const;

  // The tape that records on this thread now, or null.
  static Tape* recording();

  // The serial of the newest tape that records and wants the gradient of x, directly or on the way; 0 if there is none.
  static uint64_t wanting(const Tensor& x);

  // Called by apply. check_inputs throws TapeError for what record could not differentiate: before the kernel, so that
  // a refused call has updated nothing. record appends a node if an input wants a gradient.
  void check_inputs(const Op& op, std::span<const Tensor> inputs, const Tensors& outputs) const;
  void record(const Op& op, const Attrs& attrs, std::span<const Tensor> inputs, Tensors& outputs);

  // Called by apply on CUDA, where a bad label is told of when the forward pass has long gone on. save keeps a copy of a
  // state before an op updates it; put_back launches what writes the copies back if a label was bad, and else nothing.
  void save(const Tensor& state);
  void put_back() const;

 private:
  struct Slot {  // a tensor whose gradient is computed
    uint64_t id = 0;
    bool wanted = false;    // by the caller: a parameter or a watched tensor
    bool result = false;    // of a recorded op; else a leaf
    bool in_place = false;  // the gradient is the caller's, to be added to
    uint64_t version = 0;   // of a result's storage when it was recorded
    Tensor gradient = {};
  };
  struct Kept {  // a node's input or output; without bytes if backward does not read it
    Tensor tensor;
    uint64_t version = 0;
    int slot = -1;  // -1: no gradient
  };
  struct Node {
    const Op* op;
    Attrs attrs;
    InlineVector<Kept, most_operands> in, out;
  };

  int slot_of(const Tensor& x) const;
  bool wants(const Tensor& x) const { return x && (x.requires_grad() || slot_of(x) >= 0); }
  int add_slot(const Tensor& x, bool wanted);
  void check(const Tensor& root, const Gradients& into, const BackwardOptions& options) const;
  void run(const Node& node, int seed, bool retain);
  void add_gradient(Slot& slot, Tensor gradient);
  void collect(Gradients& into, bool retain);
  static bool owned(const Slot& slot);
  static uint64_t newest_recording(const Tape* except);  // its serial, of this thread's tapes; 0: none
  bool on_own_thread() const;

  std::vector<Node> nodes_;
  std::vector<Slot> slots_;
  std::vector<std::pair<Tensor, Tensor>> saved_;      // states, and what they were
  std::vector<std::pair<uint64_t, int>> slot_by_id_;  // sorted; ids grow, so most are appended
  uint64_t serial_;
  Tape* outer_;
  const void* thread_;  // an address of this thread's own
  bool finished_ = false;
  bool in_backward_ = false;
};

}  // namespace xent
