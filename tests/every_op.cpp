// What every op of the table owes: gradients, replay with equal bits, one result for any number of threads.
#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include <xent/xent.h>

using namespace xent;

namespace {

bool has_backward(const Op& op) { return op.backward || op.view; }

// Runs an op's forward on a copy of a sample; returns its first output, or what it updated.
std::vector<double> forward(const Op& op, const Sample& sample) {
  std::vector<Tensor> inputs = sample.inputs;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (op.updates >> i & 1 && inputs[i]) inputs[i] = inputs[i].clone();
  Tensors results = apply(op, inputs, sample.attrs);
  if (results.empty()) results.push_back(inputs[0]);
  return cast(results[0], DType::f64).to_vector<double>();
}

}  // namespace

TEST_CASE("every op of the table has a name of its own, a formula and samples") {
  std::set<std::string> names;
  for (const Op* op : all_ops()) {
    CAPTURE(op->name);
    CHECK(names.insert(op->name).second);
    CHECK(std::strlen(op->formula) > 0);
    if (op == &fill_op || op == &accumulate_op) continue;  // the engine's own: no inputs to show, or no public function
    REQUIRE(static_cast<bool>(op->samples));
    CHECK(!op->samples(DType::f64).empty());
  }
}

TEST_CASE("every differentiable op has the gradient that differences of its forward give, in f64") {
  int checked = 0;
  for (const Op* op : all_ops()) {
    if (!has_backward(*op)) continue;
    const GradientReport report = check_op(*op);
    CHECK_MESSAGE(report.passed, report.message);
    CHECK(report.worst_error < 1e-7);  // what right gradients reach; the tolerance leaves room for other people's ops
    ++checked;
  }
  CHECK(checked >= 22);
}

TEST_CASE("every op gives the same bits eager, recorded and replayed") {
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    for (const DType dtype : {DType::f32, DType::f64}) {
      const GradientReport report = check_replay(*op, dtype);
      CHECK_MESSAGE(report.passed, report.message);
    }
  }
}

TEST_CASE("every op gives the same bits for one and for three threads") {
  const int before = threads();
  for (const Op* op : all_ops()) {
    if (!op->samples) continue;
    CAPTURE(op->name);
    for (const Sample& sample : op->samples(DType::f32)) {
      set_threads(1);
      const std::vector<double> one = forward(*op, sample);
      set_threads(3);
      const std::vector<double> three = forward(*op, sample);
      CHECK(std::memcmp(one.data(), three.data(), one.size() * sizeof(double)) == 0);
    }
  }
  set_threads(before);
}

TEST_CASE("every op in f32 is near its result in f64") {
  for (const Op* op : all_ops()) {
    if (!op->samples || op == &uniform_op || op == &normal_op || op == &argmax_op || op == &cast_op) continue;
    CAPTURE(op->name);
    const Samples exact = op->samples(DType::f64), single = op->samples(DType::f32);
    for (size_t s = 0; s < exact.size(); ++s) {
      Sample rounded = exact[s];  // the same numbers, so that only the op's own rounding differs
      for (size_t i = 0; i < rounded.inputs.size(); ++i) {  // totals stay in f64
        Tensor& input = rounded.inputs[i];
        if (input && input.dtype() != single[s].inputs[i].dtype()) input = cast(input, DType::f32);
      }
      const std::vector<double> wide = forward(*op, exact[s]), narrow = forward(*op, rounded);
      REQUIRE(wide.size() == narrow.size());
      double scale = 1;
      for (const double value : wide) scale = std::max(scale, std::abs(value));
      double worst = 0;
      for (size_t i = 0; i < wide.size(); ++i) worst = std::max(worst, std::abs(wide[i] - narrow[i]));
      CHECK(worst <= 2e-5 * scale);
    }
  }
}

TEST_CASE("every op refuses integers where it computes, naming itself") {
  for (const Op* op : all_ops()) {
    if (!op->samples || op == &copy_op || op == &cast_op || op == &reshape_op || op == &slice_rows_op ||
        op == &permute_op || op == &concat_op || op == &argmax_op)
      continue;
    CAPTURE(op->name);
    Sample sample = op->samples(DType::f32)[0];
    bool changed = false;
    for (Tensor& input : sample.inputs)
      if (input && input.dtype() == DType::f32) {
        input = Tensor::zeros(input.shape(), DType::u8);
        changed = true;
      }
    if (!changed) continue;
    std::string text;
    try {
      apply(*op, sample.inputs, sample.attrs);
    } catch (const Error& error) {
      text = error.what();
    }
    CHECK(text.find(op->name) != std::string::npos);
  }
}

TEST_CASE("images of 2^58 pixels without a channel take no time, forward and backward") {
  const Tensor x = Tensor::empty({int64_t{1} << 28, 1 << 15, 1 << 15, 0}).set_requires_grad();
  const Tensor none = Tensor::empty({0}).set_requires_grad(), mean = Tensor::empty({0}), variance = Tensor::empty({0});
  Generator random(1);
  Tape tape;
  for (const Tensor& y :
       {batch_norm2d(x, none, none, mean, variance), batch_norm2d_frozen(x, none, none, mean, variance), max_pool2d(x),
        avg_pool2d(x), layer_norm(permute(x, {0, 3, 1, 2})), concat({x, x}, 3), dropout(x, 0.5, random), relu(x)})
    CHECK(tape.backward(y, {.upstream = Tensor::empty(y.shape()), .retain = true})[x].shape() == x.shape());
}
