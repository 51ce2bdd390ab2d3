#include <xent/core/profile.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include <xent/core/fill.h>
#include <xent/core/memory.h>
#include <xent/core/require.h>

namespace xent {

namespace {

thread_local Profile* innermost = nullptr;

Profile::Pass pass_of(const Op& op, const Call& call) {
  if (!call.grad_out.empty()) return Profile::Pass::backward;
  // Sums of gradients are part of backward, statistics that a layer updates on its way part of forward.
  if (&op == &accumulate_op) return Profile::Pass::backward;
  return op.updates != nothing && call.out.empty() ? Profile::Pass::update : Profile::Pass::forward;
}

}  // namespace

Profile::Profile() : outer_(innermost) { innermost = this; }

Profile::~Profile() {
  for (Profile** link = &innermost; *link; link = &(*link)->outer_)  // it may not be the innermost one
    if (*link == this) {
      *link = outer_;
      break;
    }
}

bool Profile::lives() { return innermost != nullptr; }

void Profile::add(const Op& op, const Call& call, double seconds) {
  const Pass pass = pass_of(op, call);
  auto row = std::ranges::find_if(rows_, [&](const Row& r) { return r.op == &op && r.pass == pass; });
  if (row == rows_.end()) row = rows_.insert(rows_.end(), Row{&op, pass});
  ++row->launches;
  row->seconds += seconds;
}

std::vector<Profile::Row> Profile::rows() const {
  std::vector<Row> sorted = rows_;
  std::ranges::stable_sort(sorted, std::greater(), &Row::seconds);
  return sorted;
}

double Profile::seconds(Pass pass) const {
  double total = 0;
  for (const Row& row : rows_) total += row.pass == pass ? row.seconds : 0;
  return total;
}

std::string Profile::str() const {
  constexpr const char* names[] = {"forward", "backward", "update"};
  const double total = seconds(Pass::forward) + seconds(Pass::backward) + seconds(Pass::update);
  std::string text = fmt::format("{:<24} {:<9} {:>9} {:>10} {:>9}\n", "op", "pass", "launches", "ms each", "share");
  for (const Row& row : rows())
    text += fmt::format("{:<24} {:<9} {:>9} {:>10.4f} {:>7.1f} %\n", row.op->name, names[static_cast<int>(row.pass)],
                        row.launches, 1e3 * row.seconds / static_cast<double>(row.launches),
                        total > 0 ? 100 * row.seconds / total : 0.0);
  return text;
}

void run_kernel(const Op& op, KernelFunction kernel, const Call& call, Device device) {
  const Turn turn(device);
  Profile* profile = innermost;
  if (!profile) {
    kernel(call);
    return;
  }
  const auto wait = [&, wait = memory(device).wait] {
    if (wait) wait(device.index);
  };
  wait();  // for what was launched before
  const auto start = std::chrono::steady_clock::now();
  kernel(call);
  wait();
  profile->add(op, call, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace xent
