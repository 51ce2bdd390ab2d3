// The test cases that the ONNX project publishes for its operators, read from Debian's package libonnx-testdata.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/nn/compat/onnxruntime.h>
#include <xent/nn/compat/presets.h>
#include <xent/xent.h>

#include "protobuf_reader.h"

using namespace xent;
namespace fs = std::filesystem;

namespace {

// One folder of inputs and outputs, with the node that turns the ones into the others.
struct Case {
  std::string name;
  OnnxNode node;
  std::vector<Tensor> inputs, outputs;
};

fs::path folder_of_cases() {
  const char* folder = std::getenv("XENT_ONNX_NODE_CASES");
  return folder ? folder : "/usr/share/libonnx-testdata/data/node";
}

std::vector<Tensor> read_tensors(const fs::path& folder, const std::string& prefix) {
  std::vector<Tensor> tensors;
  for (int i = 0; fs::exists(folder / (prefix + std::to_string(i) + ".pb")); ++i)
    tensors.push_back(read_onnx_tensor(folder / (prefix + std::to_string(i) + ".pb")));
  return tensors;
}

// Reads the cases whose names begin so. An expanded one has data of its own, but the operator spelled out in others:
// the node is its plain twin's. Empty where the package is not installed; says so.
std::vector<Case> cases(const std::string& prefix, size_t plain) {
  std::vector<Case> found;
  if (!fs::exists(folder_of_cases())) {
    MESSAGE("skipped: ", folder_of_cases().string(), " is not there; Debian has it in libonnx-testdata");
    return found;
  }
  size_t expanded = 0;
  for (const auto& entry : fs::directory_iterator(folder_of_cases())) {
    const std::string name = entry.path().filename(), twin = "_expanded";
    if (!name.starts_with(prefix)) continue;
    const bool is_twin = name.ends_with(twin);
    expanded += is_twin;
    const fs::path original = is_twin ? folder_of_cases() / name.substr(0, name.size() - twin.size()) : entry.path();
    const fs::path data = entry.path() / "test_data_set_0";
    found.push_back(
        {name, read_onnx_node(original / "model.onnx"), read_tensors(data, "input_"), read_tensors(data, "output_")});
    CHECK_MESSAGE(found.back().inputs.size() == found.back().node.inputs, name);
    CHECK_MESSAGE(found.back().outputs.size() == found.back().node.outputs, name);
  }
  CHECK(found.size() - expanded >= plain);
  CHECK(expanded >= plain);
  return found;
}

// ONNX's own runner allows 1e-3 of the value and 1e-7.
void check_close(const Case& c, const Tensor& got, const Tensor& expected) {
  CAPTURE(c.name);
  REQUIRE(got.shape() == expected.shape());
  REQUIRE(got.dtype() == DType::f32);
  const auto a = got.to_vector<float>(), b = expected.to_vector<float>();
  int64_t wrong = 0;
  for (size_t i = 0; i < a.size(); ++i) wrong += !(std::abs(a[i] - b[i]) <= 1e-6f + 2e-6f * std::abs(b[i]));
  CHECK(wrong == 0);
}

std::string reduction(const Case& c) {
  const auto found = c.node.strings.find("reduction");
  return found == c.node.strings.end() ? "mean" : found->second;
}

std::optional<int64_t> ignore_index(const Case& c) {
  const auto found = c.node.integers.find("ignore_index");
  return found == c.node.integers.end() ? std::nullopt : std::optional(found->second);
}

int64_t axis(const Case& c) {
  const auto found = c.node.integers.find("axis");
  return found == c.node.integers.end() ? -1 : found->second;
}

SoftmaxCrossEntropyOptions options(const Case& c) {
  SoftmaxCrossEntropyOptions options = compat::presets::onnx;
  options.target.ignore = ignore_index(c);
  options.reduction.kind = reduction(c) == "mean"  ? Reduction::Kind::mean
                           : reduction(c) == "sum" ? Reduction::Kind::sum
                                                   : Reduction::Kind::none;
  options.output.log_probs = c.outputs.size() == 2;
  return options;
}

Tensor weights(const Case& c) { return c.inputs.size() == 3 ? c.inputs[2] : Tensor(); }

}  // namespace

TEST_CASE("softmax_cross_entropy with ONNX's preset gives what all test_sce cases say") {
  for (const Case& c : cases("test_sce_", 34)) {
    REQUIRE(c.node.op == "SoftmaxCrossEntropyLoss");
    const auto [loss, log_probs, denominator, statistics] =
        softmax_cross_entropy_outputs(c.inputs[0], c.inputs[1], options(c), {.class_weights = weights(c)});
    check_close(c, loss, c.outputs[0]);
    if (c.outputs.size() == 2) check_close(c, log_probs, c.outputs[1]);
  }
}

TEST_CASE("ONNX Runtime's SoftmaxCrossEntropyLoss gives what all test_sce cases say") {
  for (const Case& c : cases("test_sce_", 34)) {
    const auto [output, log_prob] = compat::onnxruntime::softmax_cross_entropy_loss(
        c.inputs[0], c.inputs[1], weights(c), ignore_index(c), reduction(c));
    check_close(c, output, c.outputs[0]);
    if (c.outputs.size() == 2) check_close(c, log_prob, c.outputs[1]);
  }
}

TEST_CASE("softmax_cross_entropy of log-probabilities gives what all test_nllloss cases say") {
  for (const Case& c : cases("test_nllloss_", 18)) {
    REQUIRE(c.node.op == "NegativeLogLikelihoodLoss");
    SoftmaxCrossEntropyOptions of_log_probs = options(c);
    of_log_probs.input = SoftmaxCrossEntropyOptions::Input::log_probs;
    check_close(c, softmax_cross_entropy(c.inputs[0], c.inputs[1], of_log_probs, {.class_weights = weights(c)}),
                c.outputs[0]);
  }
}

TEST_CASE("softmax gives what all test_softmax cases say") {
  for (const Case& c : cases("test_softmax_", 7)) {
    REQUIRE(c.node.op == "Softmax");
    check_close(c, softmax(c.inputs[0], axis(c)), c.outputs[0]);
  }
}

TEST_CASE("log_softmax gives what all test_logsoftmax cases say") {
  for (const Case& c : cases("test_logsoftmax_", 7)) {
    REQUIRE(c.node.op == "LogSoftmax");
    check_close(c, log_softmax(c.inputs[0], axis(c)), c.outputs[0]);
  }
}

TEST_CASE("the reader of these files understands a tensor, and refuses every beginning of it that is cut off") {
  using namespace std::string_literals;
  const std::string message = "\x08\x02\x08\x01\x10\x01\x4a\x08\0\0\x80\x3f\0\0\0\xc0"s;  // [2, 1], f32, {1, -2}
  const Tensor tensor = parse_onnx_tensor(message);
  CHECK(tensor.shape() == Shape{2, 1});
  CHECK(tensor.to_vector<float>() == std::vector<float>{1, -2});
  CHECK(parse_onnx_tensor("\x0a\x02\x02\x01"s + message.substr(4)).shape() == Shape{2, 1});  // packed extents
  for (size_t length = 0; length < message.size(); ++length)
    CHECK_THROWS_AS(parse_onnx_tensor(std::string_view(message).substr(0, length)), Error);
}
