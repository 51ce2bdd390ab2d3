// What including xent costs its users: the time a compiler takes for a file that holds nothing but the umbrella header.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include <doctest/doctest.h>

#include <xent/xent.h>

namespace {

// Processor time of this process's children so far, which other programs on the machine do not lengthen.
double children_seconds() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

TEST_CASE("a file that includes <xent/xent.h> compiles in under a second (median of five)") {
  const std::string command = std::string("printf '#include <xent/xent.h>\\n' | ") + XENT_COMPILER + " -std=c++20 -I" + XENT_INCLUDE_DIR +
                              " -x c++ -c - -o /dev/null";
  std::array<double, 5> seconds{};
  for (double& time : seconds) {
    const double before = children_seconds();
    REQUIRE(std::system(command.c_str()) == 0);
    time = children_seconds() - before;
  }
  std::ranges::sort(seconds);
  MESSAGE("median ", seconds[2], " s");
  CHECK(seconds[2] < 1);
}
