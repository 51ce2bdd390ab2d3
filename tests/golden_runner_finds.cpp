// The golden runner: that it passes what the original made, and finds whatever is moved in it, in just that case.
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "data_files.h"
#include "golden_compare.h"
#include "golden_run.h"

using data_files::contains;
using golden::failure;
using golden::json;
using golden::Tally;

namespace {

const std::vector<std::string> systems = {"ort", "mxnet", "torch", "tf", "reference"};

std::string path_of(const std::string& system) { return XENT_SOURCE_DIR "/tests/golden/" + system + ".json"; }

const json& file_of(const std::string& system) {
  static std::map<std::string, json> files;
  json& file = files[system];
  if (file.is_null()) file = json::parse(std::ifstream(path_of(system)));
  return file;
}

double number(const json& value) {
  if (value.is_number()) return value;
  return value == "nan" ? NAN : value == "inf" ? INFINITY : -INFINITY;
}

// Moves an element of an expected tensor by three tolerances: ours is within one of the original's.
void move_element(json& tensor, size_t i) {
  json& value = tensor["data"][i];
  const double v = number(value);
  const double tolerance = tensor.value("atol", 0.0) + tensor.value("rtol", 0.0) * std::abs(v);
  if (value.is_number_integer()) value = value.get<int64_t>() + 1;
  else if (!std::isfinite(v)) value = 1.0;
  else value = v + 3 * tolerance;
}

// Runs a whole file of which one case was changed, and checks that just this one fails, for the reason given.
void check_found(const std::string& system, size_t which, const json& changed, const std::string& reason) {
  json file = file_of(system);
  file["cases"][which] = changed;
  std::ostringstream out;
  const Tally tally = golden::run(file, "moved.json", out);
  INFO(system, " ", reason, ": ", out.str());
  CHECK(tally.failed == 1);
  CHECK(tally.passed + 1 == static_cast<int64_t>(file["cases"].size()));
  CHECK(out.str().starts_with("moved.json: " + golden::label(changed) + ": " + reason));
}

// Calls f(system, index, case) for the first case of every system for which a condition holds, and counts them.
template <class Condition, class F>
size_t first_of_each(Condition condition, F f) {
  size_t found = 0;
  for (const std::string& system : systems) {
    const json& cases = file_of(system)["cases"];
    for (size_t i = 0; i < cases.size(); ++i)
      if (condition(cases[i])) {
        f(system, i, cases[i]);
        ++found;
        break;
      }
  }
  return found;
}

const json& case_with(const std::string& system, const char* key) {
  for (const json& entry : file_of(system)["cases"])
    if (!entry[key].empty()) return entry;
  throw golden::Malformed("no such case");
}

// Returns the failure of a good case after an edit.
template <class Edit>
std::string failure_after(const std::string& system, Edit edit) {
  json entry = case_with(system, "grads");
  REQUIRE(!failure(entry));
  edit(entry);
  return failure(entry).value_or("passed");
}

}  // namespace

TEST_CASE("every file passes, and its summary counts every case") {
  for (const std::string& system : systems) {
    std::ostringstream out;
    const Tally tally = golden::run_file(path_of(system), out);
    CHECK(out.str() == "");
    CHECK(tally.failed == 0);
    CHECK(tally.passed == static_cast<int64_t>(file_of(system)["cases"].size()));
  }
}

TEST_CASE("an output that was moved fails in its case alone") {
  const auto has_outputs = [](const json& entry) { return !entry["outputs"].empty(); };
  CHECK(first_of_each(has_outputs, [](const std::string& system, size_t which, json entry) {
          const std::string name = entry["outputs"].begin().key();
          move_element(entry["outputs"][name], 0);
          check_found(system, which, entry, "outputs." + name + "[0] got ");
        }) == systems.size());
}

TEST_CASE("a gradient that was moved fails in its case alone") {
  const auto has_grads = [](const json& entry) { return !entry["grads"].empty(); };
  CHECK(first_of_each(has_grads, [](const std::string& system, size_t which, json entry) {
          const std::string name = entry["grads"].begin().key();
          const size_t last = entry["grads"][name]["data"].size() - 1;
          move_element(entry["grads"][name], last);
          check_found(system, which, entry, "grads." + name + "[" + std::to_string(last) + "] got ");
        }) == systems.size());
}

TEST_CASE("another error cause fails in its case alone") {
  const auto has_error = [](const json& entry) { return !entry["error"].is_null(); };
  CHECK(first_of_each(has_error, [](const std::string& system, size_t which, json entry) {
          entry["error"]["cause"] = entry["error"]["cause"] == "shape" ? "rank" : "shape";
          check_found(system, which, entry, "error got cause ");
        }) == systems.size() - 1);  // the reference has none
}

TEST_CASE("an error that is not expected, and one that does not come, fail in their case alone") {
  const auto good = [](const json& entry) { return !entry["outputs"].empty(); };
  const auto bad = [](const json& entry) { return !entry["error"].is_null(); };
  CHECK(first_of_each(good, [](const std::string& system, size_t which, json entry) {
          entry["error"] = {{"cause", "shape"}};
          check_found(system, which, entry, "error got none, want cause shape");
        }) == systems.size());
  CHECK(first_of_each(bad, [](const std::string& system, size_t which, json entry) {
          entry["error"] = nullptr;
          entry["outputs"]["output"] = {{"dtype", "float32"}, {"shape", json::array()}, {"data", {0.5}}};
          check_found(system, which, entry, "error got cause ");
        }) == systems.size() - 1);
}

TEST_CASE("a warning too much or too little fails in its case alone, and null is not compared") {
  const auto warns = [](const json& entry) { return entry.contains("warnings") && !entry["warnings"].empty(); };
  const auto is_silent = [](const json& entry) {
    return entry.contains("warnings") && entry["warnings"] == json::array();
  };
  CHECK(first_of_each(warns, [](const std::string& system, size_t which, json entry) {
          entry["warnings"] = json::array();
          check_found(system, which, entry, "warnings got one, want none");
          entry["warnings"] = nullptr;
          CHECK(!failure(entry));
        }) == 1);
  CHECK(first_of_each(is_silent, [](const std::string& system, size_t which, json entry) {
          entry["warnings"] = {"size_average and reduce args will be deprecated"};
          check_found(system, which, entry, "warnings got none, want one");
          entry["warnings"] = nullptr;
          CHECK(!failure(entry));
        }) == 1);
}

TEST_CASE("whichever expected tensor is moved, at either end, the case fails with its name") {
  int moved = 0;
  for (const std::string& system : systems)
    for (const json& entry : file_of(system)["cases"])
      for (const char* kind : {"outputs", "grads"})
        for (const auto& [name, tensor] : entry[kind].items()) {
          const size_t size = tensor["data"].size();
          for (const size_t i : {size_t{0}, size - 1}) {
            if (i >= size) continue;  // of an empty tensor nothing can be moved
            json changed = entry;
            move_element(changed[kind][name], i);
            const std::string want = std::string(kind) + "." + name + "[" + std::to_string(i) + "]";
            const std::string found = failure(changed).value_or("passed");
            CHECK_MESSAGE(found.starts_with(want), system, " ", golden::label(entry), " ", want, ": ", found);
            ++moved;
          }
        }
  CHECK(moved > 2000);
}

TEST_CASE("shapes and dtypes are exact, and nothing that is expected may be missing") {
  for (const std::string& system : systems) {
    const auto grads = [](json& entry) -> json& { return entry["grads"].begin().value(); };
    CHECK(contains(failure_after(system, [&](json& entry) { grads(entry)["shape"].push_back(1); }), "shape got ["));
    CHECK(contains(failure_after(system, [&](json& entry) { grads(entry)["dtype"] = "float64"; }), "dtype got "));
    CHECK(contains(failure_after(system, [&](json& entry) { entry["outputs"]["more"] = grads(entry); }),
                   "outputs.more was not computed"));
    CHECK(contains(failure_after(system, [&](json& entry) { entry["grads"]["more"] = grads(entry); }),
                   "grads.more was not computed"));
  }
}

TEST_CASE("NaN is NaN, infinities have a sign, zero has none, and a tolerance is met or not") {
  const auto differs = [](float got, float want, double rtol, double atol) {
    return golden::difference(golden::Tensor::from({got}, {1}), {golden::Tensor::from({want}, {1}), rtol, atol})
        .has_value();
  };
  constexpr float nan = NAN, inf = INFINITY;
  CHECK(!differs(nan, nan, 0, 0));
  CHECK(differs(nan, 1, 1e30, 1e30));
  CHECK(differs(1, nan, 1e30, 1e30));
  CHECK(!differs(inf, inf, 0, 0));
  CHECK(differs(inf, -inf, 1e30, 1e30));
  CHECK(differs(1, inf, 1e30, 1e30));
  CHECK(differs(inf, 1, 1e30, 1e30));
  CHECK(!differs(-0.0f, 0.0f, 0, 0));
  CHECK(!differs(1.25f, 1, 0.125, 0.125));
  CHECK(differs(1.2500001f, 1, 0.125, 0.125));
  CHECK(!differs(-1.25f, -1, 0.25, 0));
}

TEST_CASE("what is unknown or malformed is a failure that says so") {
  const auto says = [](const char* text, auto edit) {
    for (const std::string& system : systems) {
      const std::string found = failure_after(system, edit);
      CHECK_MESSAGE((found.starts_with("malformed: ") && contains(found, text)), system, ": ", found);
    }
  };
  const auto input = [](json& entry) -> json& { return entry["inputs"].begin().value(); };
  says("unknown api 'nobody'", [](json& entry) { entry["api"] = "nobody"; });
  says("unknown argument 'colour'", [](json& entry) { entry["args"]["colour"] = 1; });
  says("unknown input 'colour'", [&](json& entry) { entry["inputs"]["colour"] = input(entry); });
  says("there is no input", [](json& entry) { entry["inputs"].clear(); });
  says("numbers for shape", [&](json& entry) { input(entry)["data"].push_back(1); });
  says("is no", [&](json& entry) { input(entry)["data"][0] = "1"; });
  says("is no integer", [&](json& entry) { input(entry)["shape"][0] = 2.5; });
  says("", [&](json& entry) { input(entry)["shape"] = {-1, -5}; });
  says("", [&](json& entry) { input(entry)["shape"] = {int64_t{1} << 62, int64_t{1} << 62}; });
  says("is no dtype", [&](json& entry) { input(entry)["dtype"] = "float8"; });
  says("no rtol", [](json& entry) { entry["grads"].begin().value()["rtol"] = "no rtol"; });
  says("without grad_outputs", [](json& entry) { entry["grad_outputs"].clear(); });
  says("nothing to compare", [](json& entry) { entry["outputs"].clear(); });
  for (const char* key : {"api", "name", "args", "inputs", "grad_outputs", "outputs", "grads", "error"})
    says(key, [key](json& entry) { entry.erase(key); });
}

TEST_CASE("whatever a value is replaced by, a case passes or fails and nothing else happens") {
  for (const std::string& system : systems) {
    const json &whole = case_with(system, "grads"), flat = whole.flatten();
    for (const auto& [pointer, value] : flat.items())
      for (const json& other : {json(), json(-1), json(1e300), json("x"), json::array(), json::object(), json(true)}) {
        json changed = whole;
        changed[json::json_pointer(pointer)] = other;
        CHECK_NOTHROW(failure(changed));
      }
  }
}

TEST_CASE("a file that cannot be read, is no JSON, or has no cases counts as a failure") {
  const data_files::Folder folder;
  const auto line_for = [&](const std::string& text) {
    std::ofstream(folder.file("x.json")) << text;
    std::ostringstream out;
    const Tally tally = golden::run_file(folder.file("x.json"), out);
    CHECK(tally.passed == 0);
    CHECK(tally.failed == 1);
    return out.str();
  };
  std::ostringstream out;
  CHECK(golden::run_file(folder.file("nothing.json"), out).failed == 1);
  CHECK(contains(out.str(), "nothing.json: malformed: cannot be opened"));
  for (const char* text : {"", "{", "[]", "{}", "{\"cases\": []}", "{\"cases\": 3}", "{\"cases\": [3]}"})
    CHECK(contains(line_for(text), "malformed: "));
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  for (const std::string& text : {deep, "{\"cases\": [{\"args\": {\"axis\": " + deep + "}}]}"})
    CHECK(contains(line_for(text), "malformed: nested deeper than 100"));
}

TEST_CASE("the program ends with a summary of all files, and its exit status says whether all passed") {
  const data_files::Folder folder;
  const auto run = [&](const std::string& files) {
    const int status = std::system((XENT_GOLDEN_RUNNER " " + files + " > " + folder.file("out") + " 2>&1").c_str());
    REQUIRE(WIFEXITED(status));
    const std::vector<uint8_t> out = folder.read("out");
    return std::pair(WEXITSTATUS(status), std::string(out.begin(), out.end()));
  };
  json file = file_of("mxnet");
  const std::string count = std::to_string(file["cases"].size()), less = std::to_string(file["cases"].size() - 1);
  file["cases"][0]["outputs"]["more"] = file["cases"][0]["outputs"]["output"];
  std::ofstream(folder.file("moved.json")) << file;

  CHECK((run(path_of("mxnet")) == std::pair(0, count + " passed, 0 failed\n")));
  const auto [moved, found] = run(folder.file("moved.json"));
  CHECK(moved == 1);
  CHECK(contains(found, "moved.json: " + golden::label(file["cases"][0]) + ": outputs.more was not computed\n"));
  CHECK(found.ends_with("\n" + less + " passed, 1 failed\n"));
  const auto [missing, both] = run(folder.file("nothing.json") + " " + path_of("mxnet"));
  CHECK(missing == 1);
  CHECK(both.ends_with("\n" + count + " passed, 1 failed\n"));
  CHECK(run("").first == 2);
}
