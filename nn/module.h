// Module: a part of a model, made of parameters and other modules.
//
//   struct Mlp : Module {
//     Linear fc1, fc2;
//     explicit Mlp(Generator& random) : fc1(784, 512, random, Activation::relu), fc2(512, 10, random) {}
//
//     Tensor forward(const Tensor& x) override { return fc2(fc1(x)); }  // [batch, 784] -> [batch, 10]
//     void visit(Visitor& visitor) override { visitor("fc1", fc1)("fc2", fc2); }
//   };
//
// visit() names the parts; everything else (parameters(), state(), to(), summary()) walks over it, so a part it leaves
// out is neither trained nor saved: look at summary(model). Nothing is registered, and a module is an ordinary value;
// as handles do, its copies share their tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <xent/core/tensor.h>

namespace xent {

class Module;

// A tensor and the path of names to it: "fc1.weight".
struct NamedTensor {
  std::string name;
  Tensor value;
};
using Parameter = NamedTensor;  // one that is trained

// Marks a tensor as a parameter: made to outlive every Step, and wanting a gradient on every tape.
// Throws ReplayError inside a Step, DTypeError for integers.
Tensor parameter(const Tensor& initial);

// What a module's visit() is handed: called once for every part, with its name.
class Visitor {
 public:
  virtual ~Visitor() = default;

  Visitor& operator()(const char* name, Tensor& tensor) {  // an empty handle is a part that is left out
    on_tensor(name, tensor);
    return *this;
  }
  Visitor& operator()(const char* name, Module& module) {
    on_module(name, module);
    return *this;
  }
  // A tensor that is not trained, but part of the state: moved and saved with the model, as running statistics are.
  Visitor& buffer(const char* name, Tensor& tensor) {
    on_buffer(name, tensor);
    return *this;
  }

 protected:
  virtual void on_tensor(const char* name, Tensor& tensor) = 0;
  virtual void on_buffer(const char* name, Tensor& tensor) = 0;
  virtual void on_module(const char* name, Module& module) = 0;
};

class Module {
 public:
  virtual ~Module() = default;

  virtual Tensor forward(const Tensor& x) = 0;
  Tensor operator()(const Tensor& x) { return forward(x); }

  // Computes next(forward(x)) in one op, where there is one for the two, or returns an empty handle. Sequential asks.
  virtual Tensor forward_with(const Tensor& x, const Module& next);

  // Names the parts: visitor("weight", weight)("bias", bias).buffer("running_mean", running_mean). None by default.
  virtual void visit(Visitor&) {}

  // Says what it is in a summary: "Linear(784, 512, relu)".
  virtual std::string describe() const { return "Module"; }

  // Lists the tensors that are trained, in the order of visit(); one that layers share is listed once.
  std::vector<Parameter> parameters();

  // Lists all tensors, frozen ones and buffers too: what a checkpoint keeps of a model. Handles: writing into them
  // writes into the model.
  std::vector<NamedTensor> state();

  // Freezes all parameters, or trains them again. (Setting it on a copy of a handle, as parameters() returns, changes
  // the copy.)
  void set_requires_grad(bool on);

  // Moves all tensors. Do so before an optimizer is made: it keeps handles to the parameters it was given.
  void to(Device device);

 protected:
  Module() = default;
  Module(const Module&) = default;
  Module(Module&&) = default;
  Module& operator=(const Module&) = default;
  Module& operator=(Module&&) = default;
};

// Applies modules one after the other. Their names are their positions: "0.weight".
//
//   Sequential model(Flatten(), Linear(784, 512, random, Activation::relu), Linear(512, 10, random));
class Sequential : public Module {
 public:
  template <class... M>
  requires(std::is_base_of_v<Module, std::remove_cvref_t<M>>&&...) explicit Sequential(M&&... modules) {
    (add(std::forward<M>(modules)), ...);
  }

  // Appends a module and returns it.
  template <class M>
  M& add(M module) {
    auto owned = std::make_unique<M>(std::move(module));
    M& added = *owned;
    modules_.push_back(std::move(owned));
    return added;
  }

  Tensor forward(const Tensor& x) override;
  void visit(Visitor& visitor) override;
  std::string describe() const override { return "Sequential"; }
  size_t size() const { return modules_.size(); }
  Module& operator[](size_t i);  // throws ArgumentError

 private:
  std::vector<std::unique_ptr<Module>> modules_;
};

// Returns a table of a model's parts, their parameters and sizes, and the total.
std::string summary(Module& model);

}  // namespace xent
