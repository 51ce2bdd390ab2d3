// The documentation tells what the code does: the op page is the op table's, and the files it names are there.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <xent/ops/ops_page.h>

namespace fs = std::filesystem;

namespace {

const fs::path root = XENT_SOURCE_DIR;

std::string read(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Says whether a header is for sources only: .cmake/install.cmake lists those.
bool is_private(const std::string& stem) {
  std::smatch list;
  const std::string rules = read(root / ".cmake/install.cmake");
  REQUIRE(std::regex_search(rules, list, std::regex(R"re(foreach\(header\s+([^)]*)\))re")));
  return std::regex_search(list[1].str(), std::regex("\\b" + stem + "\\b"));
}

}  // namespace

TEST_CASE("docs/ops.md is what the op table prints (XENT_UPDATE_DOCS=1 tests/run -R docs prints it anew)") {
  if (std::getenv("XENT_UPDATE_DOCS")) std::ofstream(root / "docs/ops.md") << xent::ops_page();
  CHECK(read(root / "docs/ops.md") == xent::ops_page());
}

TEST_CASE("every file that a page names is there") {
  const std::regex name(R"re(`((?:core|ops|cuda|nn|examples|tests|docs)/[A-Za-z0-9_./-]*[A-Za-z0-9_])`)re");
  const std::regex link(R"re(\]\(([A-Za-z0-9_./-]+)(?:#[^)]*)?\))re");
  std::vector<fs::path> pages = {root / "README.md"};
  for (const auto& entry : fs::recursive_directory_iterator(root / "docs"))
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  CHECK(pages.size() > 5);
  for (const fs::path& page : pages) {
    const std::string text = read(page);
    CHECK(!text.empty());
    CAPTURE(page.string());
    for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at)
      CHECK_MESSAGE(fs::exists(root / (*at)[1].str()), (*at)[1].str());
    for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at)
      CHECK_MESSAGE(fs::exists(page.parent_path() / (*at)[1].str()), (*at)[1].str());
  }
}

TEST_CASE("the program of adding_an_op.md is the example") {
  CHECK(read(root / "docs/adding_an_op.md").find(read(root / "examples/07_your_own_op.cpp")) != std::string::npos);
}

TEST_CASE("the lines of the README's program that cuda.md changes are in it, and the new ones are in a test") {
  const std::string readme = read(root / "README.md"), test = read(root / "tests/cuda_train.cpp");
  const std::regex block("```diff\n([\\s\\S]*?)```");
  const std::string page = read(root / "docs/cuda.md");
  std::smatch diff;
  REQUIRE(std::regex_search(page, diff, block));
  std::stringstream lines(diff[1]);
  for (std::string line; std::getline(lines, line);) {
    const std::string code = line.substr(1);
    if (line[0] != '+') CHECK_MESSAGE(readme.find(code + '\n') != std::string::npos, code);
    if (line[0] == '+') CHECK_MESSAGE(test.find(code + '\n') != std::string::npos, code);
  }
}

// A page quotes a file in blocks that name it, "```cpp ops/cpu/rows.h": lines that follow each other there, apart from
// indentation; a line of three dots leaves some out.
TEST_CASE("code that a page quotes is in the file that it names") {
  const auto lines_of = [](const std::string& text) {
    std::vector<std::string> lines;
    std::stringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      const size_t begin = line.find_first_not_of(' ');
      if (begin != std::string::npos) lines.push_back(line.substr(begin));
    }
    return lines;
  };
  const std::regex block("```cpp ([A-Za-z0-9_./]+)\n([\\s\\S]*?)\n```");
  int blocks = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root / "docs")) {
    if (entry.path().extension() != ".md") continue;
    const std::string text = read(entry.path());
    for (std::sregex_iterator at(text.begin(), text.end(), block), end; at != end; ++at, ++blocks) {
      const std::vector<std::string> file = lines_of(read(root / (*at)[1].str())), quoted = lines_of((*at)[2]);
      auto from = file.begin();
      for (auto line = quoted.begin(); line != quoted.end(); ++line) {  // run by run
        const auto run_end = std::find(line, quoted.end(), "...");
        const auto found = std::search(from, file.end(), line, run_end);
        CHECK_MESSAGE(found != file.end(), entry.path().filename(), " does not quote ", (*at)[1].str(), ": ", *line);
        if (found == file.end() || run_end == quoted.end()) break;
        from = found + (run_end - line);
        line = run_end;
      }
    }
  }
  CHECK(blocks > 10);
}

TEST_CASE("no source file has grown beyond what a reader takes in at once") {
  for (const char* folder : {"core", "ops", "cuda", "nn", "examples"})
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (entry.path().extension() != ".h" && entry.path().extension() != ".cpp") continue;
      const std::string text = read(entry.path());
      CHECK_MESSAGE(std::count(text.begin(), text.end(), '\n') <= 350, entry.path().string());
    }
}

TEST_CASE("no public header includes fmt, Eigen, zlib, json or <filesystem>; core includes nothing above it") {
  const std::regex heavy(R"re(#include <(fmt/|Eigen/|zlib|nlohmann/|filesystem))re");
  const std::regex above(R"re(#include <xent/(ops|nn|cuda)/)re");
  for (const char* folder : {"core", "ops", "nn", "nn/compat"})
    for (const auto& entry : fs::directory_iterator(root / folder)) {
      const std::string file = entry.path().filename();
      if (entry.path().extension() == ".h" && !is_private(entry.path().stem().string()))
        CHECK_MESSAGE(!std::regex_search(read(entry.path()), heavy), file);
      if (std::string(folder) == "core" && entry.is_regular_file() && file != "on_cuda.h")  // ON_CUDA names kernels
        CHECK_MESSAGE(!std::regex_search(read(entry.path()), above), file);
    }
}
