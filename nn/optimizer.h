// Optimizers: consume the gradients that a backward returned.
//
//   Adam optimizer(model.parameters(), {.learning_rate = 1e-3});
//   optimizer.step(tape.backward(loss));
//   optimizer.set_learning_rate(1e-4);  // between steps; also for a step that is replayed
//
// Learning rate, step count and moments are tensors on the parameters' device, made with the optimizer: a Step that
// contains step() reads what they are at each call.
#pragma once

#include <vector>

#include <xent/core/tape.h>
#include <xent/nn/module.h>
#include <xent/ops/ops.h>

namespace xent {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;  // two of them would share their moments
  Optimizer& operator=(const Optimizer&) = delete;

  // Updates every parameter that has a gradient: one that the loss does not depend on stays as it is, and so does a
  // layer that visit() does not name or that was replaced since. Throws TapeError if none has a gradient.
  void step(const Gradients& gradients);

  // Sets the learning rate of all groups, or of one. Throws ArgumentError for one that is negative or not finite, and
  // ReplayError inside a Step.
  void set_learning_rate(double rate);
  void set_learning_rate(size_t group, double rate);
  double learning_rate(size_t group = 0) const;

  size_t groups() const { return groups_.size(); }
  const std::vector<Parameter>& parameters(size_t group = 0) const { return this->group(group).parameters; }

  // Lists learning rates, step count and moments, by group and parameter: "0.learning_rate", "0.m.fc1.weight". What a
  // checkpoint keeps of an optimizer.
  std::vector<NamedTensor> state() const;

 protected:
  struct Group {
    std::vector<Parameter> parameters;
    Tensor learning_rate;  // f32 []
  };
  friend class Schedule;  // writes the learning rates

  Optimizer() = default;
  const Group& group(size_t index) const;  // throws ArgumentError

  // Throws ArgumentError if a group is empty, or has a parameter that is in a group already.
  void check(const std::vector<Parameter>& parameters, double learning_rate) const;
  void append(std::vector<Parameter> parameters, double learning_rate);
  static Tensor zeros_like(const Tensor& parameter);
  void append_each(std::vector<NamedTensor>& list, size_t group, const char* kind,
                   const std::vector<Tensor>& tensors) const;

  virtual void begin_step() {}
  virtual void append_state(std::vector<NamedTensor>& list) const = 0;
  virtual void update(size_t group, size_t index, const Tensor& parameter, const Tensor& gradient,
                      const Tensor& learning_rate) = 0;

 private:
  std::vector<Group> groups_;
};

// Stochastic gradient descent with momentum, Nesterov's variant and weight decay: sgd_step in ops/ops.h.
class Sgd : public Optimizer {
 public:
  struct Options {
    double learning_rate = 0.01;
    double momentum = 0;
    bool nesterov = false;
    double weight_decay = 0;
  };

  explicit Sgd(std::vector<Parameter> parameters) : Sgd(std::move(parameters), Options()) {}
  Sgd(std::vector<Parameter> parameters, const Options& options) { add_group(std::move(parameters), options); }

  // Trains more parameters, with options of their own.
  void add_group(std::vector<Parameter> parameters, const Options& options);

 protected:
  void append_state(std::vector<NamedTensor>& list) const override;
  void update(size_t group, size_t index, const Tensor& parameter, const Tensor& gradient,
              const Tensor& learning_rate) override;

 private:
  struct State {
    SgdOptions options;
    std::vector<Tensor> velocity;  // empty handles without momentum
  };
  std::vector<State> states_;
};

// Adam (Kingma and Ba 2015): adam_step in ops/ops.h. Weight decay is added to the gradient.
class Adam : public Optimizer {
 public:
  struct Options {
    double learning_rate = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0;
  };

  explicit Adam(std::vector<Parameter> parameters) : Adam(std::move(parameters), Options()) {}
  Adam(std::vector<Parameter> parameters, const Options& options) : Adam(std::move(parameters), options, false) {}

  void add_group(std::vector<Parameter> parameters, const Options& options);

  int64_t steps() const { return step_.item<int64_t>(); }

 protected:
  Adam(std::vector<Parameter> parameters, const Options& options, bool decoupled);
  void begin_step() override;
  void append_state(std::vector<NamedTensor>& list) const override;
  void update(size_t group, size_t index, const Tensor& parameter, const Tensor& gradient,
              const Tensor& learning_rate) override;

 private:
  struct State {
    AdamOptions options;
    std::vector<Tensor> m, v;
  };
  bool decoupled_;
  Tensor step_;  // i64 []
  std::vector<State> states_;
};

// AdamW (Loshchilov and Hutter 2019): decays the weights themselves, by default by 0.01 times the learning rate.
class AdamW : public Adam {
 public:
  struct Options {
    double learning_rate = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0.01;
  };

  explicit AdamW(std::vector<Parameter> parameters) : AdamW(std::move(parameters), Options()) {}
  AdamW(std::vector<Parameter> parameters, const Options& options);

  void add_group(std::vector<Parameter> parameters, const Options& options);
};

}  // namespace xent
