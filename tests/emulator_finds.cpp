// What the emulator finds: every bug planted in emulator_planted.cpp is reported, by what it is, and the same kernels
// without the bug are not. Three builds of that program: without sanitizers, with those for memory and undefined
// behaviour, and with the one for races.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace {

struct Planted {
  std::string bug;
  std::vector<std::string> reported;  // regular expressions, each of which is in the text
};

const std::vector<Planted> by_the_emulator = {
    {"divergent_barrier",
     {R"(kernel planted, block \(0, 0, 0\), thread \(\d+, 0, 0\): divergent __syncthreads: this thread is at emulator_planted.cpp:\d+)"}},
    {"return_before_barrier",
     {R"(returns while \d+ threads wait for it in __syncthreads at emulator_planted.cpp:\d+)"}},
    {"return_before_all", {R"(__syncthreads at emulator_planted.cpp:\d+, but 1 of 32 threads have returned)"}},
    {"barrier_against_warp",
     {R"(deadlock, of 32 threads 32 wait for others that do not come: 16 in __syncthreads at .*, 16 in __syncwarp with mask)"}},
    {"shuffle_from_outside", {R"(__shfl_xor_sync at .*: lane \d+ reads from lane \d+, which did not take part)"}},
    {"lanes_missing", {R"(lane \d+ returns while the lanes|names the lanes [0-9a-f]+, which have returned)"}},
    {"lane_not_in_mask", {R"(the mask 0000ffff leaves out the calling lane \d+)"}},
    {"bad_width", {R"(width 12 is not a power of two)"}},
    {"divergent_shuffle", {R"(divergent warp: lane \d+ calls __shfl_xor_sync at)"}},
    {"missing_barrier", {R"(the result has a NaN)"}},
    {"host_pointer", {R"(kernel planted: argument 0 is 0x[0-9a-f]+, which is not in device memory)"}},
    {"write_beyond", {R"(kernel planted: wrote at byte 52 of device memory of 52 bytes)"}},
    {"write_before", {R"(kernel planted: wrote at byte -4 of device memory of 52 bytes)"}},
    {"shared_beyond", {R"(wrote at byte 128 of a shared array of 128 bytes)"}},
    {"dynamic_not_asked_for", {R"(uses dynamic shared memory, but the launch asked for none)"}},
    {"launch_limits",
     {"too many threads: cudaErrorInvalidConfiguration", "too deep a block: cudaErrorInvalidConfiguration",
      "too high a grid: cudaErrorInvalidConfiguration", "an empty grid: cudaErrorInvalidConfiguration",
      "launch bounds: cudaErrorInvalidConfiguration", "much shared memory: cudaErrorInvalidValue",
      "much shared memory, asked for: cudaSuccess"}},
    {"wait_in_capture", {"wait: cudaErrorStreamCaptureUnsupported", "capture: cudaErrorStreamCaptureInvalidated"}},
    {"allocation_in_capture",
     {"allocation: cudaErrorStreamCaptureUnsupported", "capture: cudaErrorStreamCaptureInvalidated"}},
    {"graph_of_local_variable", {R"(a graph that copies from or to pageable host memory)"}},
    {"graph_after_free", {R"(kernel fill: argument 0 is 0x[0-9a-f]+, which is not in device memory, or no longer)"}},
    {"missing_event", {R"(the result is not what the other stream has written)"}},
};

const std::vector<Planted> by_memory_sanitizers = {
    {"write_beyond", {R"(AddressSanitizer: use-after-poison)", R"(WRITE of size 4)", R"(fill_to)"}},
    {"write_before", {R"(AddressSanitizer: use-after-poison)", R"(WRITE of size 4)", R"(fill_to)"}},
    {"read_beyond", {R"(AddressSanitizer: use-after-poison)", R"(READ of size 4)", R"(read_from)"}},
    {"shared_beyond", {R"(AddressSanitizer: use-after-poison)", R"(WRITE of size 4)", R"(shared_out_of_bounds)"}},
    {"host_reads_device", {R"(AddressSanitizer: use-after-poison)", R"(READ of size 4)"}},
    {"misaligned_pack", {R"(emulator_planted.cpp:\d+:\d+: runtime error: [^\n]*misaligned address)"}},
    {"offset_in_32_bits", {R"(emulator_planted.cpp:\d+:\d+: runtime error: signed integer overflow)"}},
};

const std::vector<Planted> by_the_race_detector = {
    {"missing_barrier", {R"(ThreadSanitizer: data race)", R"(missing_barrier)"}},
    {"tail_in_place", {R"(ThreadSanitizer: data race)", R"(tail_in_place)"}},
    {"two_blocks_one_word", {R"(ThreadSanitizer: data race)", R"(two_blocks_one_word)"}},
    {"shuffle_as_barrier", {R"(ThreadSanitizer: data race)", R"(shuffle_as_barrier)"}},
    {"last_block", {R"(ThreadSanitizer: data race)", R"(last_block)"}},
    {"last_block_late", {R"(ThreadSanitizer: data race)", R"(last_block)"}},
    {"last_block_reads", {R"(ThreadSanitizer: data race)", R"(last_block)"}},
};

const std::vector<std::string> mended = {"missing_barrier_mended",     "tail_in_place_mended",
                                         "two_blocks_one_word_mended", "shuffle_as_barrier_mended",
                                         "last_block_mended",          "missing_event_mended"};

struct Outcome {
  int status;
  std::string text;
};

// Old sanitizers cannot place their shadow where the kernel randomizes addresses a lot.
Outcome run(const std::string& program, const std::string& bug) {
  static const std::string fixed = std::system("setarch -R true >/dev/null 2>&1") == 0 ? "setarch -R " : "";
  FILE* const pipe = popen((fixed + program + " " + bug + " 2>&1").c_str(), "r");
  REQUIRE(pipe);
  Outcome outcome;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) outcome.text += static_cast<char>(c);
  outcome.status = WEXITSTATUS(pclose(pipe));
  return outcome;
}

void check_reported(const std::string& program, const std::vector<Planted>& all) {
  for (const Planted& planted : all) {
    const Outcome outcome = run(program, planted.bug);
    for (const std::string& part : planted.reported)
      CHECK_MESSAGE(std::regex_search(outcome.text, std::regex(part)), planted.bug, " should say ", part, ": ",
                    outcome.text);
  }
}

void check_not_reported(const std::string& program) {
  for (const std::string& name : mended) {
    const Outcome outcome = run(program, name);
    CHECK_MESSAGE(outcome.text == "done\n", name, ": ", outcome.text);
    CHECK(outcome.status == 0);
  }
}

}  // namespace

#if defined(XENT_PLANTED)
TEST_CASE("the emulator itself names kernel, block, thread and line of what CUDA leaves undefined") {
  check_reported(XENT_PLANTED, by_the_emulator);
  check_not_reported(XENT_PLANTED);
}
#endif

#if defined(XENT_PLANTED_MEMORY)
TEST_CASE("the sanitizers for memory and undefined behaviour name the kernel's line") {
  check_reported(XENT_PLANTED_MEMORY, by_memory_sanitizers);
  check_not_reported(XENT_PLANTED_MEMORY);
}
#endif

#if defined(XENT_PLANTED_RACES)
TEST_CASE("the race detector names the kernel, in whatever order its threads happened to run") {
  check_reported(XENT_PLANTED_RACES, by_the_race_detector);
  check_not_reported(XENT_PLANTED_RACES);
}
#endif

TEST_CASE("every planted bug is looked for") {
  std::set<std::string> looked_for(mended.begin(), mended.end());
  for (const auto* list : {&by_the_emulator, &by_memory_sanitizers, &by_the_race_detector})
    for (const Planted& planted : *list) looked_for.insert(planted.bug);
  std::istringstream lines(run(XENT_ANY_PLANTED, "").text);
  std::set<std::string> there;
  for (std::string line; std::getline(lines, line);) there.insert(line);
  CHECK(there == looked_for);
  CHECK(there.size() - mended.size() >= 17);
}
