// AtomicFile: writes a file so that whoever looks finds either all of the old one or all of the new one, also after
// the process was killed or the power failed.
//
//   AtomicFile file("run.safetensors");  // makes run.safetensors.partial in the same folder
//   file.write(bytes, count);
//   file.commit();                       // flushed to the disk, then renamed; until then all is as it was before
//
// The name of the temporary file is fixed, so that crashes leave one of them and not a heap. It is locked while it is
// written: a second process or thread that writes the same file waits for the first. Private to checkpoints.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

namespace xent {

// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();

  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_;
};

// Throws Error with the system's text whenever something fails; the file that was there before is whole then, and the
// temporary one is gone.
class AtomicFile {
 public:
  // A link is followed: it stays, and what it points to is replaced. What is there and is no regular file, or may not
  // be written, is refused before anything is opened.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, size_t count);                    // appends
  void write_at(size_t offset, const void* bytes, size_t count);  // over what was written
  // Puts the new file in the old one's place. Nothing throws after that: the folder is asked to flush the rename too,
  // but should it fail to, the file is there and whole, and after a power failure it is this one or the old one.
  void commit();

 private:
  void open_partial();
  [[noreturn]] void fail_with(int error) const;
  void check(bool done) const;  // throws what errno says

  std::string path_;          // as it was given, for messages
  std::string name_;          // in its folder
  std::string partial_;       // the temporary file's, there too
  unsigned permissions_ = 0;  // of the file that is replaced; 0: there is none
  size_t size_ = 0;
  Descriptor folder_, file_;
  bool committed_ = false;
};

}  // namespace xent
