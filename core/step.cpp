#include <xent/core/step.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <string_view>

#include <xent/core/arena.h>
#include <xent/core/fill.h>
#include <xent/core/graph.h>
#include <xent/core/memory.h>
#include <xent/core/profile.h>
#include <xent/core/require.h>
#include <xent/core/step_state.h>
#include <xent/core/tape.h>

namespace xent {

namespace {

constexpr size_t most_plans = 8;
constexpr uint64_t verify_every = 10;

// ---- mode ----

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

// ---- plan ----

struct Plan {
  Tensors inputs;  // the plan's own slots: every launch reads from here
  Tensors results;
  std::shared_ptr<Arena> arena;
  std::optional<Recording> recording;
  std::vector<Graph> graphs;  // of the recorded launches on devices that take such; the others are started one by one
  uint64_t calls = 0;

  bool serves(std::span<const Tensor> given) const {
    if (given.size() != inputs.size()) return false;
    for (size_t i = 0; i < given.size(); ++i)
      if (given[i].shape() != inputs[i].shape() || given[i].dtype() != inputs[i].dtype() ||
          given[i].device() != inputs[i].device())
        return false;
    return true;
  }

  // Copies the inputs into the slots before the arena is put back: one may be a result of the last call.
  void begin_call(std::span<const Tensor> given) {
    for (size_t i = 0; i < given.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        require<ReplayError>(given[i].storage() != inputs[j].storage(),
                             "Step: input {} is a handle that the function kept of its input {}; clone() it there", i,
                             j);
    for (size_t i = 0; i < given.size(); ++i) inputs[i].copy_from(given[i]);
    arena->begin_call();
    for (Tensor& input : inputs) input = input.renewed();
  }
};

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

// Makes graphs of the launches, one per device that takes such. Nothing runs.
std::vector<Graph> capture(const std::vector<Launch>& launches) {
  std::vector<Graph> graphs;
  for (const Launch& first : launches) {
    const auto there = [&](const Graph& graph) { return graph.device() == first.device; };
    if (!memory(first.device).begin_capture || std::ranges::any_of(graphs, there)) continue;
    graphs.emplace_back(first.device, [&] {
      for (const Launch& launch : launches)
        if (launch.device == first.device) launch.function(launch.call());
    });
  }
  return graphs;
}

// ---- verify ----

bool same(const Slice& a, const Slice& b) {
  return a.data == b.data && a.shape == b.shape && a.dtype == b.dtype && a.beta == b.beta;
}

std::string title(const Launch& launch) {
  return fmt::format("{}{}", launch.op->name, launch.backward() ? " (backward)" : "");
}

// Throws at the first launch that is not what the plan has noted.
void compare(const Recording& plan, const Recording& now) {
  constexpr const char* advice = "a host value that the function reads has changed; pass it as a tensor";
  const size_t count = std::min(plan.launches.size(), now.launches.size());
  for (size_t i = 0; i < count; ++i) {
    const Launch& was = plan.launches[i];
    const Launch& is = now.launches[i];
    require<ReplayError>(was.op == is.op && was.backward() == is.backward(),
                         "Step: launch {} is {} but was {} when recorded: {}", i, title(is), title(was), advice);
    require<ReplayError>(was.attrs == is.attrs, "Step: launch {}, {}: attributes differ from the recorded ones: {}", i,
                         title(is), advice);
    bool slices = was.counts == is.counts && was.slices.size() == is.slices.size();
    for (size_t s = 0; slices && s < was.slices.size(); ++s) slices = same(was.slices[s], is.slices[s]);
    require<ReplayError>(
        slices,
        "Step: launch {}, {}: works on other tensors than when recorded: a tensor that the function captured "
        "was replaced; write into it with copy_from",
        i, title(is));
  }
  if (now.launches.size() > count)
    fail<ReplayError>("Step: launch {}, {}, is new, {} were recorded: {}", count, title(now.launches[count]), count,
                      advice);
  if (plan.launches.size() > count)
    fail<ReplayError>("Step: launch {}, {}, is missing now: {}", count, title(plan.launches[count]), advice);
}

// Results may differ where launches do not: return flag ? a : b.
void compare(const Tensors& plan, const Tensors& now) {
  bool equal = plan.size() == now.size();
  for (size_t i = 0; equal && i < plan.size(); ++i)
    equal = static_cast<bool>(plan[i]) == static_cast<bool>(now[i]) && plan[i].shape() == now[i].shape() &&
            plan[i].dtype() == now[i].dtype() && (!plan[i] || plan[i].renewed().raw() == now[i].raw());
  require<ReplayError>(
      equal, "Step: other results are returned than when recorded: a host value that the function reads has changed");
}

}  // namespace

void set_replay(Replay next) { mode() = next; }
Replay replay() { return mode(); }

// ---- runner ----

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
  auto plan = std::make_unique<Plan>();
  const Device device = inputs.empty() ? Device::cpu() : inputs[0].device();
  plan->arena = std::make_shared<Arena>(device);
  {
    const Arena::Scope scope(*plan->arena);
    for (const Tensor& input : inputs)
      plan->inputs.push_back(Tensor::empty(input.shape(), input.dtype(), input.device()));
    plan->arena->keep();
  }
  plans.push_back(std::move(plan));
  return plans.back().get();
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
    plan.graphs = capture(recording.launches);
    plan.recording = std::move(recording);  // only now: a call that throws leaves no half plan
    plan.results = results;
    ++plan.calls;
    return results;
  }
  if (how == Replay::verify && (plan.calls - 2) % verify_every == 0) {  // the third call, and every tenth from there
    Recording recording;
    Tensors results = run_eagerly(plan, &recording);
    ++plan.calls;
    try {
      compare(*plan.recording, recording);
      compare(plan.results, results);
    } catch (const ReplayError&) {  // the next call records afresh
      plan.recording.reset();
      throw;
    }
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
