// Where a checkpoint can be saved, and that whatever fails on the way leaves the old one whole and nothing else behind.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>

#include <doctest/doctest.h>

#include "checkpoint_run.h"
#include "data_files.h"

// Stand-ins for system calls that fail when they are told to: a disk that breaks cannot be had otherwise.
namespace {
struct Failures {
  int fsync = 0, fsync_folder = 0, close = 0, rename = 0, write = 0;  // errno, 0: works
  int interrupts = 0;                                                 // of write, before it works
  size_t largest_write = SIZE_MAX;
} failures;

int answer(int error, long result) {
  if (error == 0) return static_cast<int>(result);
  errno = error;
  return -1;
}
}  // namespace

extern "C" int fsync(int file) {
  struct stat status;
  const bool folder = fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
  return answer(folder ? failures.fsync_folder : failures.fsync, syscall(SYS_fsync, file));
}
extern "C" int close(int file) { return answer(failures.close, syscall(SYS_close, file)); }
extern "C" int renameat(int from, const char* a, int to, const char* b) noexcept {
  if (failures.rename != 0) return answer(failures.rename, 0);
  return static_cast<int>(syscall(SYS_renameat2, from, a, to, b, 0));
}
extern "C" ssize_t pwrite(int file, const void* bytes, size_t count, off_t offset) {
  if (failures.interrupts > 0) {
    --failures.interrupts;
    return answer(EINTR, 0);
  }
  if (failures.write != 0) return answer(failures.write, 0);
  return syscall(SYS_pwrite64, file, bytes, std::min(count, failures.largest_write), offset);
}

namespace fs = std::filesystem;
using namespace xent;
using namespace checkpoint_run;
using data_files::contains;
using data_files::error_of;
using data_files::Folder;

namespace {

size_t files_in(const std::string& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// A checkpoint of one tensor, f32 [1000].
struct Kept {
  Tensor x = Tensor::full({1000}, 1);
  Checkpoint checkpoint;
  Kept() { checkpoint.add("x", x); }

  std::string error_at(const std::string& path) {
    return error_of<Error>([&] { checkpoint.save(path); });
  }
};

// Saves one state, lets saving another fail, and returns the text; what was there before has to be there still.
template <class F>
std::string error_over(const std::string& folder, F&& act) {
  const std::string path = folder + "/kept";
  Kept kept;
  kept.checkpoint.save(path);
  const std::string before = bytes_of(path);
  const size_t files = files_in(folder);
  kept.x.fill(2);
  const std::string text = act(kept, path);
  CHECK((bytes_of(path) == before));
  CHECK(files_in(folder) == files);
  CHECK(contains(text, path));
  kept.checkpoint.save(path);  // and it works again
  CHECK((bytes_of(path) != before));
  CHECK(files_in(folder) == files);
  return text;
}

}  // namespace

TEST_CASE("a folder that is missing, a path through a file, and an empty path are errors that say so") {
  const Folder folder;
  Kept kept;
  write_bytes(folder.file("file"), "x");
  CHECK(contains(kept.error_at(folder.file("missing/x")), "No such file or directory"));
  CHECK(contains(kept.error_at(folder.file("file/x")), "Not a directory"));
  CHECK(contains(kept.error_at(folder.path() + "/" + std::string(250, 'x')), "File name too long"));
  CHECK(contains(kept.error_at(""), "'' names no file"));
  CHECK(contains(kept.error_at(std::string("a\0b", 3)), "a zero byte in the path"));
  CHECK(contains(error_of<Error>([&] { require_writable(folder.file("missing/x")); }), "No such file or directory"));
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a path that is there and is no regular file is refused, by saving and loading, and stays") {
  const Folder folder;
  Kept kept;
  mkfifo(folder.file("pipe").c_str(), 0600);
  const auto load_error = [&](const std::string& path) { return error_of<Error>([&] { kept.checkpoint.load(path); }); };
  for (const std::string& path : {folder.file("pipe"), std::string("/dev/full"), std::string("/dev/null")}) {
    CHECK(contains(kept.error_at(path), "not a regular file"));
    CHECK(contains(load_error(path), "not a regular file"));
    CHECK(contains(error_of<Error>([&] { require_writable(path); }), "not a regular file"));
    CHECK(!fs::is_regular_file(path));
  }
  CHECK(contains(kept.error_at(folder.path()), "is a folder"));
  CHECK(contains(load_error(folder.path()), "is a folder"));
  CHECK(contains(load_error(folder.file("nothing")), "No such file or directory"));
  CHECK(contains(load_error(std::string("a\0b", 3)), "a zero byte in the path"));
  CHECK(!fs::exists("/dev/full.partial"));
}

TEST_CASE("something else in the temporary file's place is left alone") {
  const Folder folder;
  Kept kept;
  fs::create_directory(folder.file("a.partial"));
  CHECK(contains(kept.error_at(folder.file("a")), "Is a directory"));
  mkfifo(folder.file("b.partial").c_str(), 0600);
  CHECK(!kept.error_at(folder.file("b")).empty());
  write_bytes(folder.file("mine"), "mine");
  fs::create_symlink("mine", folder.file("c.partial"));
  CHECK(contains(kept.error_at(folder.file("c")), "symbolic links"));
  CHECK(bytes_of(folder.file("mine")) == "mine");
  CHECK(files_in(folder.path()) == 4);
}

TEST_CASE("a temporary file that a crash left behind is written over, however long it is") {
  const Folder folder;
  Kept kept;
  write_bytes(folder.file("x.partial"), std::string(100'000, 'x'));
  kept.checkpoint.save(folder.file("x"));
  kept.checkpoint.load(folder.file("x"));
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a link stays, and what it points to is replaced, or made") {
  const Folder folder;
  Kept kept;
  fs::create_directory(folder.file("runs"));
  fs::create_symlink("runs/one", folder.file("last"));
  fs::create_symlink(folder.file("last"), folder.file("again"));
  for (int round = 0; round < 2; ++round) {  // first it points nowhere
    kept.x.fill(round);
    kept.checkpoint.save(folder.file("again"));
    CHECK(fs::read_symlink(folder.file("last")) == "runs/one");
    CHECK(fs::is_symlink(folder.file("again")));
    kept.x.fill(-1);
    kept.checkpoint.load(folder.file("runs/one"));
    CHECK(kept.x.to_vector<float>()[999] == static_cast<float>(round));
  }
  CHECK(files_in(folder.path()) == 3);
  CHECK(files_in(folder.file("runs")) == 1);
  fs::create_symlink("round", folder.file("round"));
  CHECK(contains(kept.error_at(folder.file("round")), "symbolic links"));
}

TEST_CASE("the file that is replaced keeps its permissions; a path without a folder is in the current one") {
  const Folder folder;
  Kept kept;
  kept.checkpoint.save(folder.file("x"));
  fs::permissions(folder.file("x"), fs::perms::owner_read | fs::perms::owner_write);
  kept.checkpoint.save(folder.file("x"));
  CHECK(fs::status(folder.file("x")).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  kept.checkpoint.save("here");
  fs::current_path(before);
  CHECK((bytes_of(folder.file("here")) == bytes_of(folder.file("x"))));
}

TEST_CASE("a file or folder that may not be written is refused (not seen by root, who may write all)") {
  if (geteuid() == 0) {
    MESSAGE("skipped: run by root");
    return;
  }
  const Folder folder;
  Kept kept;
  kept.checkpoint.save(folder.file("x"));
  fs::permissions(folder.file("x"), fs::perms::owner_read);
  CHECK(contains(kept.error_at(folder.file("x")), "Permission denied"));
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(contains(kept.error_at(folder.file("y")), "Permission denied"));
  CHECK(contains(error_of<Error>([&] { require_writable(folder.file("y")); }), "Permission denied"));
  fs::permissions(folder.path(), fs::perms::owner_all);
}

TEST_CASE("require_writable leaves the file that is there as it is, and no other") {
  const Folder folder;
  write_bytes(folder.file("x"), "kept");
  require_writable(folder.file("x"));
  require_writable(folder.file("y"));
  CHECK(bytes_of(folder.file("x")) == "kept");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a file that may not grow that large is an error, and the old checkpoint stays") {
  const Folder folder;
  std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {0, 1, 100, 1000, 4000}) {
    const std::string text = error_over(folder.path(), [&](Kept& kept, const std::string& path) {
      rlimit before{};
      getrlimit(RLIMIT_FSIZE, &before);
      const rlimit small{limit, before.rlim_max};
      setrlimit(RLIMIT_FSIZE, &small);
      const std::string error = kept.error_at(path);
      setrlimit(RLIMIT_FSIZE, &before);
      return error;
    });
    CHECK(contains(text, "File too large"));
  }
}

TEST_CASE("a full disk is an error, and the old checkpoint stays") {
  const Folder folder;
  if (mount("none", folder.path().c_str(), "tmpfs", 0, "size=16k") != 0) {
    MESSAGE("skipped: no tmpfs can be mounted: ", std::string(std::strerror(errno)));
    return;
  }
  const std::unique_ptr<const Folder, void (*)(const Folder*)> mounted(
      &folder, [](const Folder* there) { umount(there->path().c_str()); });
  const std::string text = error_over(folder.path(), [&](Kept& kept, const std::string& path) {
    write_bytes(folder.file("filler"), std::string(6000, 'x'));  // less is left than a second copy takes
    const std::string error = kept.error_at(path);
    fs::remove(folder.file("filler"));
    return error;
  });
  CHECK(contains(text, "No space left on device"));
}

TEST_CASE("what fails when the file is written, flushed, closed or renamed is an error, and the old checkpoint stays") {
  const auto text = [](int Failures::*call, int error) {
    const Folder folder;
    return error_over(folder.path(), [&](Kept& kept, const std::string& path) {
      failures.*call = error;
      const std::string thrown = kept.error_at(path);
      failures = {};
      return thrown;
    });
  };
  CHECK(contains(text(&Failures::write, EIO), "Input/output error; what was there before is as it was"));
  CHECK(contains(text(&Failures::fsync, ENOSPC), "No space left on device; what was"));
  CHECK(contains(text(&Failures::close, EIO), "Input/output error; what was"));
  CHECK(contains(text(&Failures::rename, EACCES), "Permission denied; what was"));
}

TEST_CASE("a folder that cannot be flushed is no error: the new file is in place, and the best score is its score") {
  const Folder folder;
  for (const int error : {EINVAL, EIO}) {
    Kept kept;
    const std::string path = folder.file("best" + std::to_string(error));
    CHECK(kept.checkpoint.save_best(path, 0.5));
    const std::string before = bytes_of(path);
    kept.x.fill(2);
    failures.fsync_folder = error;
    CHECK(kept.checkpoint.save_best(path, 0.75));
    failures = {};
    CHECK((bytes_of(path) != before));
    CHECK(!kept.checkpoint.save_best(path, 0.6));
    kept.checkpoint.load(path);
    CHECK(kept.checkpoint.best_score() == 0.75);
  }
  CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("writes that are interrupted or take only a part are gone on with") {
  const Folder folder;
  Kept kept;
  kept.checkpoint.save(folder.file("x"));
  failures.interrupts = 3;
  failures.largest_write = 7;
  kept.checkpoint.save(folder.file("y"));
  failures = {};
  CHECK((bytes_of(folder.file("x")) == bytes_of(folder.file("y"))));
}
