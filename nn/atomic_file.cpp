#include <xent/nn/atomic_file.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include <xent/core/require.h>

namespace xent {

namespace {

namespace fs = std::filesystem;

constexpr int most_links = 40;             // in a row; Linux follows as many
constexpr int most_tries = 1000;           // each is one writer that was quicker
constexpr size_t largest_write = 1 << 30;  // systems take no more than 2 GiB at once

// Calls a system function again as long as a signal interrupted it.
template <class F>
auto uninterrupted(F&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// Returns where a path leads if links are followed. The file at the end need not exist.
fs::path follow_links(const std::string& path) {
  fs::path target = path;
  for (int links = 0; links < most_links; ++links) {
    std::error_code error;
    const fs::path next = fs::read_symlink(target, error);
    if (error) return target;  // not a link, or nothing at all
    target = target.parent_path() / next;
  }
  fail<Error>("checkpoint: '{}': {}", path, std::generic_category().message(ELOOP));
}

// Says whether a name in a folder still is the file that is open: somebody may have renamed or removed it since.
bool is_same_file(const Descriptor& file, const Descriptor& folder, const std::string& name) {
  struct stat ours, theirs;
  return fstat(file.number(), &ours) == 0 &&
         fstatat(folder.number(), name.c_str(), &theirs, AT_SYMLINK_NOFOLLOW) == 0 && ours.st_dev == theirs.st_dev &&
         ours.st_ino == theirs.st_ino;
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  require<ArgumentError>(path.find('\0') == std::string::npos, "checkpoint: '{}': a zero byte in the path",
                         path.c_str());
  const fs::path target = follow_links(path);
  require<ArgumentError>(target.has_filename(), "checkpoint: '{}' names no file", path);
  struct stat there;
  if (stat(target.c_str(), &there) == 0) {
    require<Error>(S_ISREG(there.st_mode), "checkpoint: '{}' is {}; give the path of a file", path,
                   S_ISDIR(there.st_mode) ? "a folder" : "not a regular file");
    check(faccessat(AT_FDCWD, target.c_str(), W_OK, AT_EACCESS) == 0);  // a rename would not ask
    permissions_ = there.st_mode & 0777;
  } else {
    check(errno == ENOENT);
  }
  name_ = target.filename();
  partial_ = name_ + ".partial";
  const fs::path folder = target.has_parent_path() ? target.parent_path() : ".";
  folder_ = Descriptor(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  check(bool(folder_));
  open_partial();
}

// Opens the temporary file and takes its lock. A crash may have left one behind, and whoever had the lock before may
// have renamed or removed it: then it is a checkpoint by now, or nothing, and not to be touched.
void AtomicFile::open_partial() {
  bool is_ours = false;
  for (int tries = 0; !is_ours; ++tries) {
    require<Error>(tries < most_tries, "checkpoint: '{}': {} is another file whenever it is looked at", path_,
                   partial_);
    // O_NONBLOCK: should it be a pipe, opening it fails instead of waiting for a reader.
    constexpr int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    file_ = Descriptor(openat(folder_.number(), partial_.c_str(), flags, 0666));
    check(bool(file_));
    struct stat opened;
    check(fstat(file_.number(), &opened) == 0);
    require<Error>(S_ISREG(opened.st_mode), "checkpoint: '{}': {} is in the way; remove it", path_, partial_);
    // Where a file system has no locks, two processes that write one checkpoint at once are not kept apart.
    const bool locked = uninterrupted([&] { return flock(file_.number(), LOCK_EX); }) == 0;
    is_ours = !locked || is_same_file(file_, folder_, partial_);
  }
  bool ready = uninterrupted([&] { return ftruncate(file_.number(), 0); }) == 0;
  if (permissions_ != 0) ready = ready && fchmod(file_.number(), permissions_) == 0;
  if (ready) return;
  const int error = errno;
  unlinkat(folder_.number(), partial_.c_str(), 0);  // no destructor runs for what was not constructed
  fail_with(error);
}

AtomicFile::~AtomicFile() {
  if (!committed_) unlinkat(folder_.number(), partial_.c_str(), 0);  // under the lock, so that it is ours
}

void AtomicFile::fail_with(int error) const {
  fail<Error>("checkpoint: '{}': {}; what was there before is as it was", path_,
              std::generic_category().message(error));
}

void AtomicFile::check(bool done) const {
  if (!done) fail_with(errno);
}

void AtomicFile::write(const void* bytes, size_t count) {
  write_at(size_, bytes, count);
  size_ += count;
}

void AtomicFile::write_at(size_t offset, const void* bytes, size_t count) {
  const auto* next = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = uninterrupted(
        [&] { return pwrite(file_.number(), next, std::min(count, largest_write), static_cast<off_t>(offset)); });
    check(written > 0);
    next += written;
    offset += static_cast<size_t>(written);
    count -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  check(uninterrupted([&] { return fsync(file_.number()); }) == 0);
  // Some file systems report only at close() what could not be written. The lock stays with the other descriptor: had
  // it gone before the rename, the next writer would already be at work on the file that is renamed.
  const int copy = fcntl(file_.number(), F_DUPFD_CLOEXEC, 0);
  check(copy >= 0);
  check(close(copy) == 0 || errno == EINTR);
  check(renameat(folder_.number(), partial_.c_str(), folder_.number(), name_.c_str()) == 0);
  committed_ = true;
  // The rename itself is on the disk only once the folder is. A failure is no error of ours: some file systems cannot
  // flush a folder, and there is no way back. An exception would say that the old file is still there.
  uninterrupted([&] { return fsync(folder_.number()); });
}

}  // namespace xent
