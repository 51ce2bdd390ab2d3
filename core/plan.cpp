#include <xent/core/plan.h>

#include <algorithm>
#include <string>
#include <utility>

#include <xent/core/memory.h>
#include <xent/core/require.h>

namespace xent {

namespace {

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

Plan::Plan(std::span<const Tensor> given)
    : arena(std::make_shared<Arena>(given.empty() ? Device::cpu() : given[0].device())) {
  const Arena::Scope scope(*arena);
  for (const Tensor& input : given) inputs.push_back(Tensor::empty(input.shape(), input.dtype(), input.device()));
  arena->keep();
}

bool Plan::serves(std::span<const Tensor> given) const {
  if (given.size() != inputs.size()) return false;
  for (size_t i = 0; i < given.size(); ++i)
    if (given[i].shape() != inputs[i].shape() || given[i].dtype() != inputs[i].dtype() ||
        given[i].device() != inputs[i].device())
      return false;
  return true;
}

void Plan::begin_call(std::span<const Tensor> given) {
  for (size_t i = 0; i < given.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      require<ReplayError>(given[i].storage() != inputs[j].storage(),
                           "Step: input {} is a handle that the function kept of its input {}; clone() it there", i, j);
  for (size_t i = 0; i < given.size(); ++i) inputs[i].copy_from(given[i]);
  arena->begin_call();
  for (Tensor& input : inputs) input = input.renewed();
}

void Plan::keep(Recording recorded, const Tensors& returned) {
  graphs = capture(recorded.launches);
  recording = std::move(recorded);  // only now: a call that throws leaves no half plan
  results = returned;
}

void Plan::verify(const Recording& now, const Tensors& returned) {
  try {
    compare(*recording, now);
    compare(results, returned);
  } catch (const ReplayError&) {
    graphs.clear();
    recording.reset();
    throw;
  }
}

}  // namespace xent
