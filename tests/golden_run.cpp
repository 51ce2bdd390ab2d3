#include "golden_run.h"

#include <algorithm>
#include <fstream>
#include <ostream>

#include <xent/core/warning.h>

#include "golden_calls.h"
#include "golden_compare.h"

namespace golden {

namespace {

// Counts warnings while it lives.
class Warnings {
 public:
  Warnings() : before_(xent::set_warning_handler([this](std::string_view) { ++count_; })) {}
  ~Warnings() { xent::set_warning_handler(std::move(before_)); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;

  bool any() const { return count_ > 0; }

 private:
  int count_ = 0;
  xent::WarningHandler before_;
};

std::string one_line(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

std::optional<std::string> compare(const Case& wanted, const Results& results) {
  if (wanted.cause) return "error got none, want cause " + *wanted.cause;
  if (auto wrong = difference("outputs", results.outputs, wanted.outputs)) return wrong;
  return difference("grads", results.grads, wanted.grads);
}

std::optional<std::string> compare_error(const Case& wanted, const std::exception& error) {
  const std::string got = cause_of(error);
  if (wanted.cause == got) return {};
  const std::string want = wanted.cause ? "cause " + *wanted.cause : "none";
  return "error got cause " + got + " (" + error.what() + "), want " + want;
}

void move(Tensors& tensors, xent::Device device) {
  for (auto& [name, tensor] : tensors)
    if (tensor) tensor = tensor.to(device);
}

// Throws what a kernel there has to complain of by now.
void wait(xent::Device device) { Tensor::zeros({}, xent::DType::f32, device).item(); }

// Calls with the inputs there. What a kernel there has to complain of is thrown by the copy of the results; or it comes
// before what the host finds wrong, and must not be left for the next case.
Results call_on(xent::Device device, Case wanted) {
  move(wanted.inputs, device);
  if (wanted.upstream) wanted.upstream = wanted.upstream.to(device);
  Results results;
  try {
    results = call(wanted);
  } catch (...) {
    wait(device);
    throw;
  }
  move(results.outputs, {});
  move(results.grads, {});
  return results;
}

std::optional<std::string> run_case(const Case& wanted, xent::Device device) {
  const Warnings warnings;
  std::optional<std::string> wrong;
  try {
    wrong = compare(wanted, call_on(device, wanted));
  } catch (const Malformed&) {
    throw;
  } catch (const std::exception& error) {
    wrong = compare_error(wanted, error);
  }
  if (!wrong && wanted.warns && *wanted.warns != warnings.any())
    return *wanted.warns ? "warnings got none, want one" : "warnings got one, want none";
  return wrong;
}

// Values are copied and written by functions that call themselves, which a file of nothing but brackets would turn
// into a stack overflow.
bool shallow(int depth, json::parse_event_t, const json&) {
  constexpr int deepest = 100;
  if (depth > deepest) throw Malformed("nested deeper than " + std::to_string(deepest));
  return true;
}

}  // namespace

std::optional<std::string> failure(const json& entry, xent::Device device) try {
  return run_case(read_case(entry), device);
} catch (const std::exception& error) {  // of the reading: run_case keeps those of the call
  return std::string("malformed: ") + error.what();
}

Tally run(const json& file, const std::string& name, std::ostream& out, xent::Device device) {
  Tally tally;
  const bool listed = file.is_object() && file.contains("cases") && file.at("cases").is_array();
  if (!listed || file.at("cases").empty()) {
    out << one_line(name) << ": malformed: there are no cases\n";
    return {.passed = 0, .failed = 1};
  }
  for (const json& entry : file.at("cases")) {
    const auto wrong = failure(entry, device);
    if (wrong) out << one_line(name + ": " + label(entry) + ": " + *wrong) << '\n';
    ++(wrong ? tally.failed : tally.passed);
  }
  return tally;
}

Tally run_file(const std::string& path, std::ostream& out, xent::Device device) {
  std::ifstream in(path);
  json file;
  try {
    if (!in) throw Malformed("cannot be opened");
    file = json::parse(in, shallow);
  } catch (const std::exception& error) {
    out << one_line(path + ": malformed: " + error.what()) << '\n';
    return {.passed = 0, .failed = 1};
  }
  return run(file, path, out, device);
}

}  // namespace golden
