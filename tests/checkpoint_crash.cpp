// Processes that are killed while they save, or save at the same time: what is there is always one whole checkpoint.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include <doctest/doctest.h>

#include "checkpoint_run.h"
#include "data_files.h"

extern char** environ;

namespace fs = std::filesystem;
using namespace xent;
using namespace checkpoint_run;
using data_files::Folder;

namespace {

constexpr const char* path_variable = "XENT_TEST_CHECKPOINT";

// A state that is all of one number.
struct Uniform {
  Tensor floats = Tensor::zeros({100'000});
  Tensor bytes = Tensor::zeros({50'001}, DType::u8);
  int64_t number = 0;
  Checkpoint checkpoint;
  Uniform() {
    checkpoint.add("floats", floats);
    checkpoint.add("bytes", bytes);
    checkpoint.add("number", number);
  }

  void set(int64_t value) {
    floats.fill(static_cast<double>(value));
    bytes.fill(static_cast<double>(value));
    number = value;
  }
  bool holds(int64_t value) const {
    return number == value && floats.to_vector<float>() == std::vector<float>(100'000, static_cast<float>(value)) &&
           bytes.to_vector<uint8_t>() == std::vector<uint8_t>(50'001, static_cast<uint8_t>(value));
  }
  bool is_whole() const { return holds(1) || holds(2); }
};

// This program, once more: it runs only the case that saves without end.
class Saver {
 public:
  explicit Saver(const std::string& path) {
    setenv(path_variable, path.c_str(), 1);
    std::string program = "/proc/self/exe", skipped = "--no-skip", only = "--test-case=*two states in turn*";
    char* arguments[] = {program.data(), skipped.data(), only.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    REQUIRE(posix_spawn(&process_, program.c_str(), &actions, nullptr, arguments, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Saver() { end(); }
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  // Kills it as no process can prevent, and says whether that is what ended it.
  bool end() {
    if (process_ == 0) return false;
    int status = 0;
    kill(process_, SIGKILL);
    waitpid(process_, &status, 0);
    process_ = 0;
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }

 private:
  pid_t process_ = 0;
};

ino_t inode(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

void wait_ms(double milliseconds) {
  std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(milliseconds));
}

// Waits until another file is there: a save has ended.
bool wait_for_save(const std::string& path, ino_t before) {
  for (int i = 0; i < 30'000; ++i) {
    if (const ino_t now = inode(path); now != 0 && now != before) return true;
    wait_ms(1);
  }
  return false;
}

}  // namespace

TEST_CASE("(run as a process of its own) saves two states in turn until it is killed" * doctest::skip()) {
  const char* path = std::getenv(path_variable);
  if (!path) return;
  alarm(120);  // whatever happens to the test
  Uniform states[2];
  states[0].set(1);
  states[1].set(2);
  for (size_t i = 0;; ++i) states[i % 2].checkpoint.save(path);
}

TEST_CASE("after kill -9 at any moment one of the two states is there whole, and the next save works") {
  const Folder folder;
  const std::string path = folder.file("run");
  HostRandom random(1);
  Uniform loaded;
  int cut_short = 0;
  for (int round = 0; round < 20; ++round) {
    const ino_t before = inode(path);
    Saver saver(path);
    REQUIRE(wait_for_save(path, before));
    wait_ms(20.0 * static_cast<double>(random.uniform()));
    CHECK(saver.end());
    cut_short += fs::exists(path + ".partial");
    loaded.checkpoint.load(path);
    CHECK(loaded.is_whole());
    if (round % 5 == 4) {
      loaded.checkpoint.save(path);
      CHECK(!fs::exists(path + ".partial"));
      loaded.set(0);
      loaded.checkpoint.load(path);
      CHECK(loaded.is_whole());
    }
  }
  MESSAGE(cut_short, " of 20 were killed while the temporary file was there");
  const auto files = std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator());
  CHECK(files == 1);
}

TEST_CASE("two processes that save into one path at once leave a whole checkpoint at every moment") {
  const Folder folder;
  const std::string path = folder.file("run");
  Saver first(path), second(path);
  REQUIRE(wait_for_save(path, 0));
  Uniform loaded;
  for (int i = 0; i < 200; ++i) {
    loaded.checkpoint.load(path);
    REQUIRE(loaded.is_whole());
  }
  CHECK(first.end());
  CHECK(second.end());
  loaded.checkpoint.load(path);
  CHECK(loaded.is_whole());
}

TEST_CASE("two threads that save into one path at once leave a whole checkpoint at every moment") {
  const Folder folder;
  const std::string path = folder.file("run");
  std::atomic<bool> stop = false;
  std::atomic<int> errors = 0;
  const auto save = [&](int64_t value) {
    Uniform state;
    state.set(value);
    while (!stop) try {
        state.checkpoint.save(path);
      } catch (const Error&) {
        ++errors;
      }
  };
  std::thread first(save, 1), second(save, 2);
  const bool saved = wait_for_save(path, 0);
  Uniform loaded;
  int whole = 0;
  for (int i = 0; saved && i < 200; ++i) {
    loaded.checkpoint.load(path);
    whole += loaded.is_whole();
  }
  stop = true;
  first.join();
  second.join();
  CHECK(whole == 200);
  CHECK(errors == 0);
  CHECK(!fs::exists(path + ".partial"));
}

TEST_CASE("a save waits for one into the same path that is under way, and does not touch the file that became of it") {
  const Folder folder;
  const std::string path = folder.file("run"), partial = path + ".partial";
  const int other = open(partial.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);  // another process at work
  REQUIRE(flock(other, LOCK_EX) == 0);
  REQUIRE(write(other, "theirs", 6) == 6);
  std::atomic<bool> saved = false;
  std::thread thread([&] {
    Uniform state;
    state.set(2);
    state.checkpoint.save(path);
    saved = true;
  });
  wait_ms(50);
  CHECK(!saved);
  CHECK(bytes_of(partial) == "theirs");
  fs::rename(partial, folder.file("kept"));  // as if that were the checkpoint's name
  close(other);
  thread.join();
  CHECK(bytes_of(folder.file("kept")) == "theirs");
  Uniform loaded;
  loaded.checkpoint.load(path);
  CHECK(loaded.holds(2));
}
