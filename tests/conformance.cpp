// xent-conformance: ours agrees with the originals where they are well defined, and the page says what it prints.
#include <doctest/doctest.h>

#ifdef XENT_BIN_DIR

#include "example_programs.h"

using namespace examples;

TEST_CASE(
    "every corner is as the original has it, or as the page says (XENT_UPDATE_DOCS=1 prints docs/conformance.md)") {
  const fs::path page = fs::path(XENT_SOURCE_DIR) / "docs/conformance.md";
  const Result result = run("xent-conformance", "--markdown");
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  if (std::getenv("XENT_UPDATE_DOCS")) std::ofstream(page) << result.out;
  CHECK(result.out == read(page));
  CHECK(result.out.find("WRONG") == std::string::npos);
}

TEST_CASE("in a terminal the table has at most 120 columns") {
  const Result result = run("xent-conformance");
  CHECK(result.exit_code == 0);
  std::stringstream text(result.out);
  for (std::string line; std::getline(text, line);) CHECK_MESSAGE(line.size() <= 120, line);
}

#endif
