// xent-conformance: what softmax cross-entropy does in the corners, in five systems and here. The original's column is
// knowledge; ours is computed now, by the functions of nn/compat, and checked where the original is well defined.
#include <cstdio>
#include <map>
#include <string_view>

#include <CLI/CLI.hpp>

#include "outcome.h"
#include "table.h"

using namespace conformance;

namespace {

constexpr const char* about =
    "What each system does in the corners of softmax cross-entropy, and what its function in `nn/compat` does.\n"
    "The third column is computed by calling that function; the last one says how it compares:\n";

constexpr std::array<std::array<const char*, 2>, 6> verdicts = {{
    {"same", "the original's numbers"},
    {"same error", "the original's exception, or a LabelError for its label out of range, with its words"},
    {"refused", "undefined in the original (it reads out of bounds, ends the process, ...); an exception here"},
    {"defined", "undefined in the original, though it does no harm; these numbers here"},
    {"differs", "well defined in the original, another number here, on purpose"},
    {"stricter", "well defined in the original, an exception here, on purpose"},
}};

constexpr const char* notation =
    "Unless a row says otherwise there are two classes and logits 0, ln 3 (probabilities 1/4, 3/4) and ln 3, 0; the\n"
    "reduction is the function's default, logits are f32, and the gradient is that of the logits for ones upstream.\n"
    "C is the number of classes, p the softmax, q a target distribution, l a row's loss.\n";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares xent with five systems in the corners of softmax cross-entropy", "xent-conformance");
  bool markdown = false;
  app.add_flag("--markdown", markdown, "print docs/conformance.md");
  CLI11_PARSE(app, argc, argv);

  if (markdown)
    std::printf("# Conformance\n\nPrinted by `xent-conformance --markdown`; `tests/conformance.cpp` compares.\n\n");
  std::printf("%s\n", about);
  for (const auto& [word, meaning] : verdicts)
    std::printf(markdown ? "- **%s**: %s\n" : "  %-10s  %s\n", word, meaning);
  std::printf("\n%s", notation);

  std::map<std::string, int> counts;
  for (const System& system : {onnxruntime_cpu(), onnxruntime_dense(), onnxruntime_cuda(), onnx_function(), mxnet(),
                               composer(), torch(), tensorflow()}) {
    std::vector<Line> lines;
    for (const Case& tested : system.cases) {
      const Outcome outcome = tested.ours();
      const std::string word = verdict(tested, outcome);
      ++counts[word];
      lines.push_back({tested.corner, tested.original, outcome.str(), word});
    }
    const Line head = {"corner", "original", "ours", "verdict"};
    std::string about_system;
    for (const std::string& part : wrap(system.about, 120)) about_system += part + '\n';
    std::printf(markdown ? "\n## %s\n\n%s\n%s" : "\n%s\n%s\n%s", system.name.c_str(), about_system.c_str(),
                (markdown ? markdown_table(head, lines) : terminal_table(head, lines)).c_str());
  }

  int all = 0;
  for (const auto& [word, count] : counts) all += count;
  std::printf("\n%d corners:", all);
  for (const auto& [word, count] : counts) std::printf(" %d %s", count, word.c_str());
  std::printf("\n");
  return counts.contains("WRONG") ? 1 : 0;
}
