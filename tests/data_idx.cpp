// read_idx: the IDX files of MNIST, and everything that can be wrong with one.
#include <doctest/doctest.h>

#include <limits>

#include <xent/core/error.h>
#include <xent/nn/idx.h>

#include "data_files.h"

using namespace xent;
using namespace data_files;

namespace {

std::string error_at(const std::string& path) {
  return error_of<FormatError>([&] { read_idx(path); });
}

const std::vector<uint8_t> six_bytes = {1, 2, 3, 250, 5, 255};

}  // namespace

TEST_CASE("a plain file of bytes becomes a u8 tensor of its shape") {
  const Folder folder;
  const Tensor tensor = read_idx(folder.write("x", idx(0x08, {2, 3}, six_bytes)));
  CHECK(tensor.dtype() == DType::u8);
  CHECK(tensor.shape() == Shape{2, 3});
  CHECK(tensor.to_vector<uint8_t>() == six_bytes);
}

TEST_CASE("a gzipped file reads like the plain one, whatever its name") {
  const Folder folder;
  const Tensor tensor = read_idx(folder.write_gzip("x", idx(0x08, {2, 3}, six_bytes)));
  CHECK(tensor.shape() == Shape{2, 3});
  CHECK(tensor.to_vector<uint8_t>() == six_bytes);
}

TEST_CASE("a file larger than one step of reading arrives whole") {
  const Folder folder;
  std::vector<uint8_t> elements(3'000'001);
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = static_cast<uint8_t>(i * i >> 8);
  const auto bytes = idx(0x08, {3'000'001}, elements);
  CHECK(read_idx(folder.write("x", bytes)).to_vector<uint8_t>() == elements);
  CHECK(read_idx(folder.write_gzip("x.gz", bytes)).to_vector<uint8_t>() == elements);
}

TEST_CASE("i32, f32 and f64 are read most significant byte first") {
  const Folder folder;
  const Tensor integers = read_idx(folder.write("i", idx(0x0C, {2}, {0x01, 0x02, 0x03, 0x04, 0xFF, 0xFF, 0xFF, 0xFE})));
  CHECK(integers.to_vector<int32_t>() == std::vector<int32_t>{0x01020304, -2});
  const Tensor floats = read_idx(folder.write("f", idx(0x0D, {2}, {0x3F, 0xC0, 0, 0, 0xFF, 0x80, 0, 0})));
  CHECK(floats.to_vector<float>() == std::vector<float>{1.5f, -std::numeric_limits<float>::infinity()});
  const Tensor doubles = read_idx(folder.write("d", idx(0x0E, {1}, {0xC0, 0x04, 0, 0, 0, 0, 0, 0})));
  CHECK(doubles.to_vector<double>() == std::vector<double>{-2.5});
}

TEST_CASE("an extent of zero gives a tensor without elements") {
  const Folder folder;
  CHECK(read_idx(folder.write("x", idx(0x08, {0, 28, 28}, {}))).shape() == Shape{0, 28, 28});
}

TEST_CASE("rank 8 is read, rank 0 and rank 9 are refused") {
  const Folder folder;
  CHECK(read_idx(folder.write("eight", idx(0x08, {1, 1, 1, 1, 1, 1, 1, 2}, {7, 8}))).rank() == 8);
  CHECK(
      contains(error_at(folder.write("nine", idx(0x08, std::vector<uint32_t>(9, 1), {7}))), "rank 9 is not in [1, 8]"));
  CHECK(contains(error_at(folder.write("zero", idx(0x08, {}, {7}))), "rank 0 is not in [1, 8]"));
}

TEST_CASE("a file that is not there is named") {
  const Folder folder;
  const std::string text = error_at(folder.file("nothing"));
  CHECK(contains(text, folder.file("nothing")));
  CHECK(contains(text, "No such file"));
}

TEST_CASE("a folder is no file") {
  const Folder folder;
  const std::string text = error_at(folder.path());
  CHECK(contains(text, folder.path()));
  CHECK(contains(text, "directory"));
}

TEST_CASE("other type codes are named") {
  const Folder folder;
  CHECK(contains(error_at(folder.write("x", idx(0x0B, {1}, {0, 0}))), "unknown dtype 0x0B"));
}

TEST_CASE("a file of another kind is told by its first bytes") {
  const Folder folder;
  const std::string page = "<!DOCTYPE html>";
  const std::string text = error_at(folder.write("x", {page.begin(), page.end()}));
  CHECK(contains(text, "not an IDX file"));
  CHECK(contains(text, "3C 21"));
}

TEST_CASE("too few and too many bytes of elements are told apart") {
  const Folder folder;
  CHECK(contains(error_at(folder.write("x", idx(0x08, {2, 4}, six_bytes))),
                 "6 bytes of elements, but shape [2, 4] needs 8"));
  CHECK(contains(error_at(folder.write("x", idx(0x08, {5}, six_bytes))), "left over after the 5 of shape [5]"));
}

TEST_CASE("extents that promise more than there is take no memory for it") {
  const Folder folder;
  const uint32_t huge = 0xFFFFFFFF;
  CHECK(
      contains(error_at(folder.write("terabytes", idx(0x08, {1u << 31, 1u << 10}, six_bytes))), "6 bytes of elements"));
  CHECK(contains(error_at(folder.write("overflow", idx(0x0E, {huge, huge, huge}, six_bytes))), "too many elements"));
  CHECK(contains(error_at(folder.write("hidden", idx(0x0E, {huge, huge, huge, 0}, {}))), "too many elements"));
}

TEST_CASE("a gzipped file that is cut short is found at every length") {
  const Folder folder;
  folder.write_gzip("whole", idx(0x08, {2, 3}, six_bytes));
  const std::vector<uint8_t> bytes = folder.read("whole");
  for (size_t length = 0; length < bytes.size(); ++length) {
    const std::string text =
        error_at(folder.write("cut", {bytes.begin(), bytes.begin() + static_cast<int64_t>(length)}));
    CHECK_MESSAGE(contains(text, folder.file("cut")), "length ", length);
  }
}

TEST_CASE("a gzipped file whose checksum does not hold is damaged") {
  const Folder folder;
  folder.write_gzip("x", idx(0x08, {2, 3}, six_bytes));
  std::vector<uint8_t> bytes = folder.read("x");
  bytes[bytes.size() - 8] ^= 1;  // the last eight bytes are checksum and length
  CHECK(contains(error_at(folder.write("x", bytes)), "incorrect data check"));
}

TEST_CASE("a gzipped file with any one bit flipped gives the same tensor or a FormatError") {
  const Folder folder;
  folder.write_gzip("whole", idx(0x08, {2, 3}, six_bytes));
  const std::vector<uint8_t> bytes = folder.read("whole");
  int refused = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::vector<uint8_t> flipped = bytes;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    const std::string path = folder.write("flipped", flipped);
    try {
      const Tensor tensor = read_idx(path);  // a flip in gzip's notes of time and system does no harm
      CHECK_MESSAGE(tensor.to_vector<uint8_t>() == six_bytes, "bit ", bit);
    } catch (const FormatError&) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}

TEST_CASE("a plain file is refused at every length but its own") {
  const Folder folder;
  const std::vector<uint8_t> bytes = idx(0x0C, {1, 2}, {0, 0, 0, 1, 0, 0, 0, 2});
  for (size_t length = 0; length <= bytes.size() + 1; ++length) {
    std::vector<uint8_t> cut = bytes;
    cut.resize(length);
    const std::string text = error_at(folder.write("cut", cut));
    CHECK_MESSAGE(text.empty() == (length == bytes.size()), "length ", length, ": ", text);
  }
}

TEST_CASE("any other byte anywhere in the header gives a tensor that fits the file or a FormatError") {
  const Folder folder;
  const std::vector<uint8_t> bytes = idx(0x08, {2, 3}, six_bytes);
  int read = 0, refused = 0;
  for (size_t at = 0; at < 12; ++at)
    for (int value = 0; value < 256; ++value) {
      std::vector<uint8_t> changed = bytes;
      changed[at] = static_cast<uint8_t>(value);
      const std::string path = folder.write("changed", changed);
      try {
        const Tensor tensor = read_idx(path);
        const size_t header = 4 + 4 * static_cast<size_t>(tensor.rank());
        CHECK(tensor.bytes() == changed.size() - header);
        ++read;
      } catch (const FormatError& error) {
        CHECK(contains(error.what(), path));
        ++refused;
      }
    }
  CHECK(read == 12);  // the bytes that were there
  CHECK(refused == 12 * 255);
}
