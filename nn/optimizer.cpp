#include <xent/nn/optimizer.h>

#include <cmath>

#include <xent/core/join.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>

namespace xent {

namespace {

void require_rate(double rate) {
  require<ArgumentError>(std::isfinite(rate) && rate >= 0,
                         "optimizer: learning rate {} must be finite and not negative", rate);
}

void require_fraction(const char* what, double value) {
  require<ArgumentError>(value >= 0 && value < 1, "optimizer: {} {} must be in [0, 1)", what, value);
}

void require_not_negative(const char* what, double value) {
  require<ArgumentError>(std::isfinite(value) && value >= 0, "optimizer: {} {} must be finite and not negative", what,
                         value);
}

Adam::Options as_adam(const AdamW::Options& options) {
  return {options.learning_rate, options.beta1, options.beta2, options.epsilon, options.weight_decay};
}

}  // namespace

// ---- Optimizer ----

void Optimizer::check(const std::vector<Parameter>& parameters, double learning_rate) const {
  require_rate(learning_rate);
  require<ArgumentError>(!parameters.empty(), "optimizer: no parameters; does the model name its parts in visit()?");
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = parameters[i];
    require<ArgumentError>(parameter.value && parameter.value.requires_grad(),
                           "optimizer: {} is no parameter; make it with parameter()", parameter.name);
    bool twice = false;
    for (size_t j = 0; j < i; ++j) twice |= parameters[j].value.id() == parameter.value.id();
    for (const Group& group : groups_)
      for (const Parameter& other : group.parameters) twice |= other.value.id() == parameter.value.id();
    require<ArgumentError>(!twice, "optimizer: {} is given twice", parameter.name);
  }
}

void Optimizer::append(std::vector<Parameter> parameters, double learning_rate) {
  Tensor rate = Tensor::persistent("an optimizer", {}, DType::f32, parameters[0].value.device());
  rate.fill(learning_rate);
  groups_.push_back({std::move(parameters), std::move(rate)});
}

Tensor Optimizer::zeros_like(const Tensor& parameter) {
  Tensor zeros = Tensor::persistent("an optimizer", parameter.shape(), parameter.dtype(), parameter.device());
  zeros.fill(0);
  return zeros;
}

void Optimizer::step(const Gradients& gradients) {
  bool any = false;
  for (const Group& group : groups_)
    for (const Parameter& parameter : group.parameters) any |= gradients.contains(parameter.value);
  require<TapeError>(
      any, "optimizer: no parameter has a gradient; was the model moved or replaced after the optimizer was made?");
  begin_step();
  Joined joined;
  for (size_t g = 0; g < groups_.size(); ++g)
    for (size_t i = 0; i < groups_[g].parameters.size(); ++i) {
      const Tensor& parameter = groups_[g].parameters[i].value;
      if (const Tensor* gradient = gradients.find(parameter))
        update(g, i, parameter, *gradient, groups_[g].learning_rate);
    }
  joined.launch();
}

std::vector<NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> list;
  for (size_t g = 0; g < groups_.size(); ++g)
    list.push_back({fmt::format("{}.learning_rate", g), groups_[g].learning_rate});
  append_state(list);
  return list;
}

// Names the tensors that an optimizer keeps for the parameters of a group; without momentum there are none.
void Optimizer::append_each(std::vector<NamedTensor>& list, size_t group, const char* kind,
                            const std::vector<Tensor>& tensors) const {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i])
      list.push_back({fmt::format("{}.{}.{}", group, kind, groups_[group].parameters[i].name), tensors[i]});
}

void Optimizer::set_learning_rate(double rate) {
  for (size_t group = 0; group < groups_.size(); ++group) set_learning_rate(group, rate);
}

const Optimizer::Group& Optimizer::group(size_t index) const {
  require<ArgumentError>(index < groups_.size(), "optimizer: group {} of {}", index, groups_.size());
  return groups_[index];
}

void Optimizer::set_learning_rate(size_t index, double rate) {
  require_outside_step("set_learning_rate", "set it between the calls");
  require_rate(rate);
  Tensor(group(index).learning_rate).fill(rate);
}

double Optimizer::learning_rate(size_t index) const { return group(index).learning_rate.item(); }

// ---- Sgd ----

void Sgd::add_group(std::vector<Parameter> parameters, const Options& options) {
  require_not_negative("momentum", options.momentum);
  require_not_negative("weight decay", options.weight_decay);
  require<ArgumentError>(!options.nesterov || options.momentum > 0, "optimizer: Nesterov's variant needs a momentum");
  State state{.options = {options.momentum, options.nesterov, options.weight_decay}, .velocity = {}};
  check(parameters, options.learning_rate);
  for (const Parameter& parameter : parameters)
    state.velocity.push_back(options.momentum > 0 ? zeros_like(parameter.value) : Tensor());
  states_.reserve(states_.size() + 1);  // a group without its state must not be seen, whatever throws
  append(std::move(parameters), options.learning_rate);
  states_.push_back(std::move(state));
}

void Sgd::append_state(std::vector<NamedTensor>& list) const {
  for (size_t g = 0; g < states_.size(); ++g) append_each(list, g, "velocity", states_[g].velocity);
}

void Sgd::update(size_t group, size_t index, const Tensor& parameter, const Tensor& gradient,
                 const Tensor& learning_rate) {
  const State& state = states_[group];
  sgd_step(parameter, gradient, state.velocity[index], learning_rate, state.options);
}

// ---- Adam, AdamW ----

Adam::Adam(std::vector<Parameter> parameters, const Options& options, bool decoupled) : decoupled_(decoupled) {
  const Device device = parameters.empty() ? Device::cpu() : parameters[0].value.device();
  step_ = Tensor::persistent("an optimizer", {}, DType::i64, device);
  step_.fill(0);
  add_group(std::move(parameters), options);
}

void Adam::add_group(std::vector<Parameter> parameters, const Options& options) {
  require_fraction("beta1", options.beta1);
  require_fraction("beta2", options.beta2);
  require_not_negative("epsilon", options.epsilon);
  require_not_negative("weight decay", options.weight_decay);
  State state{
      .options = {options.beta1, options.beta2, options.epsilon, options.weight_decay, decoupled_}, .m = {}, .v = {}};
  check(parameters, options.learning_rate);
  for (const Parameter& parameter : parameters) {
    state.m.push_back(zeros_like(parameter.value));
    state.v.push_back(zeros_like(parameter.value));
  }
  states_.reserve(states_.size() + 1);  // a group without its state must not be seen, whatever throws
  append(std::move(parameters), options.learning_rate);
  states_.push_back(std::move(state));
}

void Adam::begin_step() { advance(step_); }

void Adam::append_state(std::vector<NamedTensor>& list) const {
  list.push_back({"step", step_});
  for (size_t g = 0; g < states_.size(); ++g) {
    append_each(list, g, "m", states_[g].m);
    append_each(list, g, "v", states_[g].v);
  }
}

void Adam::update(size_t group, size_t index, const Tensor& parameter, const Tensor& gradient,
                  const Tensor& learning_rate) {
  const State& state = states_[group];
  adam_step(parameter, gradient, state.m[index], state.v[index], learning_rate, step_, state.options);
}

AdamW::AdamW(std::vector<Parameter> parameters, const Options& options)
    : Adam(std::move(parameters), as_adam(options), true) {}

void AdamW::add_group(std::vector<Parameter> parameters, const Options& options) {
  Adam::add_group(std::move(parameters), as_adam(options));
}

}  // namespace xent
