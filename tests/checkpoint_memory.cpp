// Loading files that are too large for memory, or whose headers are: an error, never a crash, and nothing changes.
#include <cstdlib>
#include <limits>
#include <new>

#include <doctest/doctest.h>

#include "checkpoint_run.h"
#include "data_files.h"

// ---- operator new of more bytes than `most` fails; not inlined, or GCC takes malloc and delete for a mismatch ----

static size_t most = std::numeric_limits<size_t>::max();

[[gnu::noinline]] void* operator new(size_t bytes) {
  if (void* memory = bytes <= most ? std::malloc(bytes ? bytes : 1) : nullptr) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return bytes <= most ? std::malloc(bytes ? bytes : 1) : nullptr;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
// A sanitizer's own array forms do not come by these.
[[gnu::noinline]] void* operator new[](size_t bytes) { return operator new(bytes); }
[[gnu::noinline]] void* operator new[](size_t bytes, const std::nothrow_t& no) noexcept {
  return operator new(bytes, no);
}
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

using namespace xent;
using namespace checkpoint_run;
using data_files::contains;
using data_files::error_of;
using data_files::Folder;

TEST_CASE("a sparse file of terabytes is refused, whatever its header says") {
  const Folder folder;
  const Tensor x = Tensor::full({2}, 3);
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  const std::string claims_all = R"({"x":{"dtype":"U8","shape":[4398046511104],"data_offsets":[0,4398046511104]},)"
                                 R"("__metadata__":{"crc32":"00000000"}})";
  for (const std::string& begin : {std::string(), file_of("{}"), file_of(claims_all)})
    for (const uint64_t size : {uint64_t{1} << 40, uint64_t{1} << 42, (uint64_t{1} << 42) + 8 + claims_all.size()}) {
      const std::string path = write_bytes(folder.file("x"), begin);
      std::error_code refused;  // by file systems that hold no such file
      std::filesystem::resize_file(path, size, refused);
      if (refused) continue;
      for (const bool required : {true, false})
        CHECK(contains(error_of<Error>([&] { checkpoint.load(path, {.require_checksum = required}); }), path));
    }
  CHECK(x.to_vector<float>() == std::vector<float>{3, 3});
}

TEST_CASE("a file or a header that there is no memory for is a DeviceError, and nothing changes") {
  const Folder folder;
  const Tensor x = Tensor::full({100'000}, 3);
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  checkpoint.save(folder.file("x"));
  std::string numbers = "1";  // of two bytes each, and sixteen when parsed
  for (int i = 0; i < 100'000; ++i) numbers += ",1";
  write_bytes(folder.file("header"), file_of("{\"x\":[" + numbers + "]}"));
  const auto error = [&](const char* name, size_t largest) {
    most = largest;
    const std::string text =
        error_of<DeviceError>([&] { checkpoint.load(folder.file(name), {.require_checksum = false}); });
    most = std::numeric_limits<size_t>::max();
    return text;
  };
  CHECK(contains(error("x", 300'000), "no memory for its 400"));
  CHECK(error("x", 500'000).empty());
  CHECK(contains(error("header", 300'000), "no memory to read its header"));
  CHECK(x.to_vector<float>() == std::vector<float>(100'000, 3));
}

TEST_CASE("damage to a header is found by the checksum, before the parser sees it") {
  const Folder folder;
  const Tensor x = Tensor::full({2}, 3);
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  checkpoint.save(folder.file("x"));
  std::string file = bytes_of(folder.file("x"));
  file.replace(file.find("\"dtype\""), 7, "[[[[[[[");
  for (const bool required : {true, false})
    CHECK(contains(error_of<FormatError>(
                       [&] { checkpoint.load(write_bytes(folder.file("y"), file), {.require_checksum = required}); }),
                   "the checksum is"));
}

TEST_CASE("a name that ends like the checksum's is none") {
  const Folder folder;
  const Tensor x = Tensor::full({2}, 3);
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  const std::string path =
      write_bytes(folder.file("x"), file_of(R"({"__metadata__":{"\"crc32":"00000000"},)"
                                            R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                                            std::string(8, '\0')));
  CHECK(contains(error_of<FormatError>([&] { checkpoint.load(path); }), "has no checksum"));
  checkpoint.load(path, {.require_checksum = false});
  CHECK(x.to_vector<float>() == std::vector<float>{0, 0});
}
