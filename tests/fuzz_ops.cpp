// Random calls of every op: it returns a result of the right shape, every element of it written, or throws an Error
// that names it, and what it does not update keeps its bits. Seeds are fixed: a failure can be repeated.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/xent.h>

#include "data_files.h"
#include "op_trials.h"

using namespace xent;
using namespace op_trials;

namespace {

using Bytes = std::vector<uint8_t>;

Bytes bytes_of(const Tensor& x) {
  const auto* data = x ? static_cast<const uint8_t*>(x.raw()) : nullptr;
  return Bytes(data, data + (x ? x.bytes() : 0));
}

// Fresh memory holds nothing but ones, a NaN that no op computes.
bool is_written(const Tensor& x) {
  const auto bytes = bytes_of(x);
  const auto size = static_cast<std::ptrdiff_t>(size_of(x.dtype()));
  for (auto at = bytes.begin(); is_floating(x.dtype()) && at != bytes.end(); at += size)
    if (std::all_of(at, at + size, [](uint8_t byte) { return byte == 0xFF; })) return false;
  return true;
}

// Makes one call, and its backward. Returns what is wrong with it, or nothing.
std::string fault_of(const Op& op, Chance& c, int& results) {
  const Trial trial = trial_of(op, c);
  std::vector<Bytes> before;
  std::vector<Tensor> watched;
  Tape tape;
  for (const Tensor& x : trial.inputs) {
    before.push_back(bytes_of(x));
    const bool differentiable = op.differentiable >> std::min<size_t>(before.size() - 1, 31) & 1;
    if (x && is_floating(x.dtype()) && differentiable && c.one_in(2)) watched.push_back(x);
  }
  for (const Tensor& x : watched) tape.watch(x);

  Tensor y;
  try {
    y = trial.call();
  } catch (const Error& error) {  // any other exception fails the test
    const std::string text = error.what();
    const char* name = &op == &softmax_cross_entropy_in_place_op ? "softmax_cross_entropy" : op.name;
    if (text.find(name) == std::string::npos) return "does not name the op: " + text;
  }
  results += y ? 1 : 0;
  if (y && y.shape() != trial.shape()) return y.shape().str() + " instead of " + trial.shape().str();
  if (y && !is_written(y)) return "elements that nobody wrote";
  if (y && tape.size() > 0) {
    const Gradients gradients = tape.backward(y, {.upstream = c.tensor(y.shape(), y.dtype())});
    for (const Tensor& x : watched)
      if (gradients[x].shape() != x.shape() || !is_written(gradients[x])) return "a gradient that is not whole";
  }
  for (size_t i = 0; i < before.size(); ++i) {
    bool updated = false;  // it, or another name of its bytes
    for (size_t j = 0; y && j < before.size(); ++j)
      updated |= (op.updates >> j & 1) && trial.inputs[j].storage() == trial.inputs[i].storage();
    if (!updated && bytes_of(trial.inputs[i]) != before[i]) return "input " + std::to_string(i) + " was written";
  }
  return "";
}

}  // namespace

TEST_CASE("every op gives a whole result of the right shape or an Error that names it, and writes nothing else") {
  const bool poisoned = poison_fresh_memory(true);
  for (const Op* op : all_ops()) {
    if (op == &fill_op || op == &accumulate_op) continue;  // the engine's own, without a public function
    const std::string name = op->name;
    CAPTURE(name);
    constexpr int calls = 500;
    int results = 0;
    for (uint64_t seed = 0; seed < calls; ++seed) {
      CAPTURE(seed);
      Chance chance(seed);
      const std::string fault = fault_of(*op, chance, results);
      CHECK_MESSAGE(fault.empty(), fault);
    }
    CHECK(results > 20);
    CHECK((results < calls || op == &cast_op || op == &copy_op));
  }
  poison_fresh_memory(poisoned);
}

TEST_CASE("every op refuses another number of inputs than it takes, naming itself") {
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    const Sample sample = op->samples(DType::f32)[0];
    for (size_t count = 0; count < 12; ++count) {
      if (count == sample.inputs.size()) continue;
      std::vector<Tensor> inputs = sample.inputs;
      inputs.resize(count, inputs[0]);
      const std::string text = data_files::error_of<Error>([&] { apply(*op, inputs, sample.attrs); });
      CHECK(data_files::contains(text, op->name));
    }
  }
}
