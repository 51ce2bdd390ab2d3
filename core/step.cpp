#include <xent/core/step.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <string_view>

#include <xent/core/arena.h>
#include <xent/core/plan.h>
#include <xent/core/profile.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

constexpr size_t most_plans = 8;
constexpr uint64_t verify_every = 10;

Replay replay_from_environment() {
  const char* text = std::getenv("XENT_REPLAY");
  const std::string_view mode = text ? text : "on";
  if (mode == "on") return Replay::on;
  if (mode == "off") return Replay::off;
  if (mode == "verify") return Replay::verify;
  fail<ArgumentError>("XENT_REPLAY={}: use on, off or verify", mode);
}

std::atomic<Replay>& mode() {
  static std::atomic<Replay> mode = replay_from_environment();
  return mode;
}

// Marks this thread as running a Step, and its arena as the source of memory.
class Running {
 public:
  Running(Arena* arena, Recording* recording) : state_{recording} {
    if (arena) scope_.emplace(*arena);
    set_running_step(&state_);
  }
  ~Running() { set_running_step(nullptr); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  StepState state_;
  std::optional<Arena::Scope> scope_;
};

}  // namespace

void set_replay(Replay next) { mode() = next; }
Replay replay() { return mode(); }

struct StepRunner::State {
  std::unique_ptr<Function> function;
  std::vector<std::unique_ptr<Plan>> plans;
  std::atomic<bool> busy = false;

  Tensors call(std::span<const Tensor> inputs);
  Tensors run_eagerly(Plan& plan, Recording* recording);
  Tensors run_planned(Plan& plan);
  Tensors run_replayed(Plan& plan);
  Plan* plan_for(std::span<const Tensor> inputs);
};

StepRunner::StepRunner(std::unique_ptr<Function> function) : state_(std::make_unique<State>()) {
  state_->function = std::move(function);
}
StepRunner::~StepRunner() = default;
StepRunner::StepRunner(StepRunner&&) noexcept = default;
StepRunner& StepRunner::operator=(StepRunner&&) noexcept = default;

size_t StepRunner::plans() const { return state_ ? state_->plans.size() : 0; }

size_t StepRunner::launches(std::span<const Tensor> inputs) const {
  if (!state_) return 0;
  for (const auto& plan : state_->plans)
    if (plan->serves(inputs)) return plan->recording ? plan->recording->launches.size() : 0;
  return 0;
}

Tensors StepRunner::operator()(std::span<const Tensor> inputs) {
  require<ArgumentError>(state_ != nullptr, "Step: called after it was moved from");
  require<ReplayError>(!running_step(), "Step: called inside a Step; call its function directly");
  require<ReplayError>(
      !Tape::recording(),
      "Step: called while a tape records; the tape could not see inside. Make the tape in the function");
  for (const Tensor& input : inputs) {
    require<ReplayError>(!input.requires_grad(), "Step: input of shape {} is a parameter; let the function capture it",
                         input.shape());
    input.raw();  // a stale or empty handle is an error before anything is touched
  }
  require<ReplayError>(!state_->busy.exchange(true), "Step: called from two threads at once; make a Step per thread");
  struct Release {
    std::atomic<bool>& busy;
    ~Release() { busy = false; }
  } release{state_->busy};
  return state_->call(inputs);
}

Plan* StepRunner::State::plan_for(std::span<const Tensor> inputs) {
  for (const auto& plan : plans)
    if (plan->serves(inputs)) return plan.get();
  if (plans.size() == most_plans) return nullptr;
  return plans.emplace_back(std::make_unique<Plan>(inputs)).get();
}

Tensors StepRunner::State::call(std::span<const Tensor> inputs) {
  Plan* plan = plan_for(inputs);
  if (!plan) {       // one shape too many: run it, with memory from the cache
    Tensors copies;  // the function may write into its inputs, or return one
    for (const Tensor& input : inputs) copies.push_back(input.clone());
    Running running(nullptr, nullptr);
    return (*function)({copies.data(), copies.size()});
  }
  plan->begin_call(inputs);
  return run_planned(*plan);
}

Tensors StepRunner::State::run_planned(Plan& plan) {
  const Replay how = mode();
  if (how == Replay::off) return run_eagerly(plan, nullptr);
  if (plan.calls == 0) {
    Tensors results = run_eagerly(plan, nullptr);
    plan.calls = 1;
    return results;
  }
  if (!plan.recording) {
    Recording recording;
    Tensors results = run_eagerly(plan, &recording);
    plan.keep(std::move(recording), results);
    ++plan.calls;
    return results;
  }
  if (how == Replay::verify && (plan.calls - 2) % verify_every == 0) {  // the third call, and every tenth from there
    Recording recording;
    Tensors results = run_eagerly(plan, &recording);
    ++plan.calls;
    plan.verify(recording, results);
    return results;
  }
  ++plan.calls;
  return run_replayed(plan);
}

Tensors StepRunner::State::run_eagerly(Plan& plan, Recording* recording) {
  Running running(plan.arena.get(), recording);
  Tensors results = (*function)({plan.inputs.data(), plan.inputs.size()});
  for (Tensor& result : results) {
    if (!result) continue;
    result.raw();  // a stale handle is found here: a replay would hand it out as a fresh one
    note_use(result);
    for (const Tensor& input :
         plan.inputs)  // handed back, a slot might come in as another input and be overwritten first
      if (result.storage() == input.storage()) result = result.clone();
  }
  return results;
}

Tensors StepRunner::State::run_replayed(Plan& plan) {
  for (const StorageRef& storage : plan.recording->updated) storage->bump_version();  // first: a kernel may throw
  const bool measured = Profile::lives();  // then every kernel is started by itself
  for (const Launch& launch : plan.recording->launches)
    if (measured || launch.device == Device::cpu())
      run_kernel(*launch.op, launch.function, launch.call(), launch.device);
  if (!measured)
    for (const Graph& graph : plan.graphs) graph.launch();
  Tensors results = plan.results;
  for (Tensor& result : results) result = result.renewed();
  return results;
}

}  // namespace xent
