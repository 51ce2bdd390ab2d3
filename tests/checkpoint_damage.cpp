// Files that are damaged, hostile, or of another model: each is refused, says what is wrong, and changes nothing.
#include <zlib.h>

#include <cstdio>
#include <cstring>

#include <doctest/doctest.h>

#include "checkpoint_run.h"
#include "data_files.h"

using namespace xent;
using namespace checkpoint_run;
using data_files::contains;
using data_files::error_of;
using data_files::Folder;

namespace {

// Loads a file of a header and so many bytes into a tensor x, f32 [2], and returns the FormatError's text.
std::string error_with(const std::string& header, size_t data = 8) {
  const Folder folder;
  const std::string path = write_bytes(folder.file("x"), file_of(header, std::string(data, '\1')));
  const Tensor x = Tensor::full({2}, 3);
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  const std::string text =
      error_of<FormatError>([&] { checkpoint.load(path, {.ignore_extra = true, .require_checksum = false}); });
  CHECK(x.to_vector<float>() == std::vector<float>{3, 3});
  if (!text.empty()) CHECK(contains(text, path));
  CHECK(text.size() < 1000);
  return text;
}

std::string entry(const std::string& offsets, const std::string& shape = "[2]", const std::string& dtype = "\"F32\"") {
  return R"({"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string error_of_entry(const std::string& fields, size_t data = 8) {
  return error_with(R"({"x":)" + fields + "}", data);
}

}  // namespace

TEST_CASE("a checkpoint that is cut short anywhere, or longer, is refused and changes nothing") {
  const Folder folder;
  Run run(1), other(2);
  run.train(4);
  run.checkpoint.save(folder.file("run"));
  const std::string file = bytes_of(folder.file("run")), before = other.bits();
  for (size_t length = 0; length < file.size(); ++length) {
    write_bytes(folder.file("cut"), file.substr(0, length));
    for (const bool required : {true, false})
      if (error_of<FormatError>([&] {
            other.checkpoint.load(folder.file("cut"), {.ignore_extra = true, .require_checksum = required});
          }).empty())
        FAIL_CHECK("length ", length);
    if (other.bits() != before) FAIL("changed at length ", length);
  }
  for (const char* more : {"\1", "        ", "{}"}) {
    write_bytes(folder.file("longer"), file + more);
    CHECK_THROWS_AS(other.checkpoint.load(folder.file("longer")), FormatError);
  }
  CHECK((other.bits() == before));
  other.checkpoint.load(folder.file("run"));
  CHECK((other.bits() == run.bits()));
}

TEST_CASE("a checkpoint with any one bit flipped is refused and changes nothing") {
  const Folder folder;
  Run run(1), other(2);
  run.train(4);
  run.checkpoint.save_best(folder.file("run"), 0.5);
  std::string file = bytes_of(folder.file("run"));
  const std::string before = other.bits(), path = write_bytes(folder.file("flipped"), file);
  std::fstream flipped(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto put = [&](size_t at) {
    flipped.seekp(static_cast<std::streamoff>(at));
    flipped.put(file[at]);
    flipped.flush();
  };
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    const char mask = static_cast<char>(1 << bit % 8);
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ mask);
    put(bit / 8);
    if (error_of<FormatError>([&] { other.checkpoint.load(path, {.ignore_extra = true}); }).empty())
      FAIL_CHECK("bit ", bit);
    if (other.bits() != before) FAIL("changed at bit ", bit);
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ mask);
    put(bit / 8);
  }
  MESSAGE((8 * file.size()), " bits");
  other.checkpoint.load(path);
  CHECK((other.bits() == run.bits()));
}

TEST_CASE("a flipped bit is refused without a checksum as well, unless it makes another key of the checksum's") {
  const Folder folder;
  const Tensor x = Tensor::ones({3});
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  checkpoint.save(folder.file("x"));
  const std::string file = bytes_of(folder.file("x"));
  size_t accepted = 0;
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    write_bytes(folder.file("flipped"), flipped);
    try {
      checkpoint.load(folder.file("flipped"), {.require_checksum = false});
      ++accepted;
      CHECK(bit / 8 - file.find("crc32") < 5);
    } catch (const FormatError&) {
    }
  }
  CHECK(accepted > 10);
}

TEST_CASE("the header's length is checked against the file and against 100 MB") {
  const Folder folder;
  const auto error = [&](const std::string& bytes) {
    const std::string path = write_bytes(folder.file("x"), bytes);
    return error_of<FormatError>([&] { Checkpoint().load(path, {.require_checksum = false}); });
  };
  CHECK(contains(error(""), "has 0 bytes"));
  CHECK(contains(error("\x02"), "has 1 bytes"));
  CHECK(contains(error(std::string(8, '\0')), "no JSON object"));
  CHECK(contains(error(std::string(8, '\0') + "{}"), "no JSON object"));
  CHECK(contains(error(std::string("\x03\0\0\0\0\0\0\0{}", 10)), "a header of 3 bytes in a file of 10"));
  CHECK(contains(error(std::string(8, '\xff') + "{}"), "a header of 18446744073709551615 bytes, more than 100000000"));
  CHECK(contains(error(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)), "a header of 100000001 bytes"));
  CHECK(error(file_of("{}")).empty());
  std::string large = "{}" + std::string(100'000'000 - 2, ' ');
  CHECK(error(file_of(large)).empty());
  CHECK(contains(error(file_of(large + " ")), "more than 100000000"));
}

TEST_CASE("a header that is no JSON object of text and entries is refused") {
  for (const std::string text : {"[]", "1", "null", "\"x\"", " {}", "\n{}", "\xef\xbb\xbf{}"})
    CHECK_MESSAGE(contains(error_with(text), "no JSON object"), text);
  for (const std::string text :
       {"{", "{]", "{}}", "{} {}", "{x:1}", "{'x':1}", "{\"x\":}", "{\"x\":1,}", "{\"\xff\":1}", "{\"x\":\"\x01\"}",
        "{\"x\":+1}", "{\"x\":NaN}", "{} // comment", "{\"x\":01}"})
    CHECK_MESSAGE(contains(error_with(text), "no JSON from"), text);
  CHECK(contains(error_with(std::string("{}\0", 3)), "a zero byte"));
  CHECK(contains(error_with("{\"x\":" + entry("[0,8]") + std::string("}\0{", 3)), "a zero byte"));
  CHECK(contains(error_with("{\"x\":1e999}"), "out of range"));
  for (const std::string text : {R"({"x":1})", R"({"x":null})", R"({"x":[]})", R"({"x":{}})", R"({"x":"F32"})",
                                 R"({"x":{"dtype":"F32","shape":[2]}})",
                                 R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]}})",
                                 R"({"x":{"dtype":"F32","shape":[2],"offsets":[0,8]}})"})
    CHECK_MESSAGE(contains(error_with(text), "'x' has not just dtype, shape and data_offsets"), text);
}

TEST_CASE("a header that nests deep is refused without the stack or the memory for it") {
  const size_t deep = 10'000'000;
  CHECK(contains(error_with("{\"x\":" + std::string(deep, '[')), "nests too deep"));
  CHECK(contains(error_with("{\"x\":" + std::string(10'000, '[') + std::string(10'000, ']') + "}"), "too deep"));
  std::string objects;
  for (int i = 0; i < 10'000; ++i) objects += "{\"x\":";
  CHECK(contains(error_with(objects + "1" + std::string(10'000, '}')), "too deep"));
  CHECK(contains(error_with(R"({"__metadata__":{"a":{"b":{"c":1}}}})"), "too deep"));
}

TEST_CASE("names that come twice are refused, on every level") {
  const std::string x = R"("x":)" + entry("[0,8]");
  CHECK(contains(error_with("{" + x + "," + x + "}"), "'x' is in the header twice"));
  CHECK(contains(error_with("{" + x + R"(,"\u0078":1})"), "'x' is in the header twice"));
  CHECK(contains(error_with(R"({"__metadata__":{"a":"1","a":"2"}})"), "'a' is in the header twice"));
  CHECK(contains(error_with(R"({"__metadata__":{},"__metadata__":{}})"), "twice"));
  CHECK(contains(error_with(R"({"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"), "'dtype' is"));
  CHECK(
      contains(error_with("{\"" + std::string(10'000, 'y') + "\":1,\"" + std::string(10'000, 'y') + "\":1}"), "twice"));
}

TEST_CASE("metadata is text; a checksum has eight lower-case hex digits that hold") {
  CHECK(contains(error_with(R"({"__metadata__":[]})"), "the metadata is no JSON object"));
  CHECK(contains(error_with(R"({"__metadata__":{"a":1}})"), "metadata 'a' is no text"));
  CHECK(contains(error_with(R"({"__metadata__":{"crc32":"0000000"}})"), "'0000000' is no checksum of ours"));
  CHECK(contains(error_with(R"({"__metadata__":{"crc32":"000000000"}})"), "is no checksum of ours"));
  CHECK(contains(error_with(R"({"__metadata__":{"crc32":""}})"), "is no checksum of ours"));
  CHECK(contains(error_with(R"({"__metadata__":{"crc32": "00000000"}})"), "is no checksum of ours"));
  CHECK(contains(error_with(R"({"__metadata__":{"crc32":"00000000"}})"), "but 00000000 was stored"));
  // The digits of a right checksum in capitals: the same number, but not the same text.
  const Folder folder;
  for (const char* format : {"%08lx", "%08lX"}) {
    std::string header = R"({"x":)" + entry("[0,8]") + R"(,"__metadata__":{"crc32":"00000000"}})", file, digits;
    do {
      header += ' ';
      file = file_of(header, std::string(8, '\1'));
      digits.resize(9);
      std::snprintf(digits.data(), 9, format,
                    crc32(0, reinterpret_cast<const Bytef*>(file.data()), static_cast<uInt>(file.size())));
      digits.resize(8);
    } while (digits.find_first_of("abcdefABCDEF") == std::string::npos);
    file.replace(file.find("00000000"), 8, digits);
    const Tensor x = Tensor::zeros({2});
    Checkpoint checkpoint;
    checkpoint.add("x", x);
    const std::string text = error_of<FormatError>([&] { checkpoint.load(write_bytes(folder.file("x"), file)); });
    CHECK_MESSAGE(text.empty() == (digits.find_first_of("ABCDEF") == std::string::npos), text);
  }
}

TEST_CASE("dtypes, shapes and offsets are checked one by one") {
  CHECK(contains(error_of_entry(entry("[0,8]", "[2]", "\"F8_E4M3\"")), "'x' has dtype 'F8_E4M3'; F64, F32"));
  CHECK(contains(error_of_entry(entry("[0,8]", "[2]", "\"f32\"")), "has dtype 'f32'"));
  CHECK(contains(error_of_entry(entry("[0,8]", "[2]", "5")), "a dtype that is no text"));
  for (const std::string shape : {"2", "{}", "\"2\"", "null", "[1,1,1,1,1,1,1,1,2]"})
    CHECK_MESSAGE(contains(error_of_entry(entry("[0,8]", shape)), "no list of at most 8 extents"), shape);
  for (const std::string shape : {"[-2]", "[2.0]", "[\"2\"]", "[null]", "[true]", "[18446744073709551615]", "[2e0]",
                                  "[9223372036854775808]", "[36893488147419103232]"})
    CHECK_MESSAGE(contains(error_of_entry(entry("[0,8]", shape)), "no whole number from 0 to"), shape);
  for (const std::string shape :
       {"[9223372036854775807]", "[4294967296,4294967296]", "[9223372036854775807,2]", "[4294967296,4294967296,0]"})
    CHECK_MESSAGE(contains(error_of_entry(entry("[0,8]", shape)), "too many elements"), shape);
  for (const std::string shape : {"[3]", "[]", "[0]", "[4294967298]", "[2,2]"})
    CHECK_MESSAGE(contains(error_of_entry(entry("[0,8]", shape)), "do not fit its shape"), shape);
  for (const std::string offsets : {"[0]", "[0,8,8]", "8", "{}", "[0,8.0]", "[-8,0]", "[\"0\",8]", "[0,null]",
                                    "[0,1e1]", "[0,18446744073709551616]"})
    CHECK_MESSAGE(contains(error_of_entry(entry(offsets)), "not two whole numbers from 0"), offsets);
  for (const std::string offsets : {"[8,0]", "[0,7]", "[0,9]", "[0,0]", "[18446744073709551615,7]", "[1,0]"})
    CHECK_MESSAGE(contains(error_of_entry(entry(offsets)), "do not fit its shape"), offsets);
  for (const std::string offsets : {"[8,16]", "[4,12]", "[18446744073709551600,18446744073709551608]"})
    CHECK_MESSAGE(contains(error_of_entry(entry(offsets)), "expected them from 0 on and up to 8"), offsets);
  CHECK(contains(error_of_entry(entry("[0,8]"), 7), "up to 7"));
  CHECK(contains(error_of_entry(entry("[0,8]"), 9), "8 bytes of elements, but 9 bytes follow"));
  CHECK(contains(error_of_entry(entry("[0,0]", "[0]"), 8), "0 bytes of elements, but 8"));
}

TEST_CASE("tensors that overlap, or leave a hole, are refused") {
  const auto two = [](const char* a, const char* b) { return R"({"a":)" + entry(a) + R"(,"x":)" + entry(b) + "}"; };
  CHECK(contains(error_with(two("[0,8]", "[0,8]"), 8), "expected them from 8 on"));
  CHECK(contains(error_with(two("[0,8]", "[4,12]"), 12), "expected them from 8 on"));
  CHECK(contains(error_with(two("[0,8]", "[12,20]"), 20), "'x' has bytes [12, 20), expected them from 8 on"));
  CHECK(contains(error_with(two("[8,16]", "[16,24]"), 24), "expected them from 0 on"));
  CHECK(contains(error_with(two("[0,8]", "[8,16]"), 15), "up to 15"));
}

TEST_CASE("a file that others wrote is loaded only when asked for: any order, spaces, elements that are not aligned") {
  const Folder folder;
  const std::string header = R"({ "x" : {"shape":[2], "data_offsets" : [1, 9], "dtype":"F32"},
      "__metadata__":{"format":"pt"}, "none":{"dtype":"U8","shape":[3,0],"data_offsets":[1,1]},
      "odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]} } )";
  std::string data(9, '\0');
  data[4] = 0x3f;  // 0.5
  data[7] = static_cast<char>(0x80);
  data[8] = static_cast<char>(0xbf);  // -1
  const std::string path = write_bytes(folder.file("x"), file_of(header, data));
  const Tensor x = Tensor::zeros({2}), odd = Tensor::ones({1}, DType::u8), none = Tensor::ones({3, 0}, DType::u8);
  Checkpoint checkpoint;
  checkpoint.add("x", x);
  checkpoint.add("odd", odd);
  checkpoint.add("none", none);
  CHECK(contains(error_of<FormatError>([&] { checkpoint.load(path); }), ".require_checksum = false"));
  checkpoint.load(path, {.require_checksum = false});
  CHECK(x.to_vector<float>() == std::vector<float>{0.5, -1});
  CHECK(odd.to_vector<uint8_t>() == std::vector<uint8_t>{0});
}

TEST_CASE("a checkpoint of another run is refused: a tensor more, one less, another shape, another dtype") {
  const Folder folder;
  Run run(1), other(2), wider(3, 4), doubles(4, 3, DType::f64);
  run.checkpoint.save(folder.file("run"));
  int64_t more = 7;
  const auto error = [&](Run& target, const LoadOptions& options = {}) {
    const std::string before = target.bits();
    const std::string text = error_of<FormatError>([&] { target.checkpoint.load(folder.file("run"), options); });
    CHECK((target.bits() == before));
    CHECK(more == 7);
    return text;
  };
  CHECK(contains(error(wider), "the checkpoint has fc1.weight f32 [4, 3], here it is f32 [4, 4]"));
  CHECK(contains(error(doubles), "the checkpoint has fc1.weight f32 [4, 3], here it is f64 [4, 3]"));
  other.checkpoint.add("more", more);
  CHECK(contains(error(other), "has no more: it was made by another model"));
  CHECK(contains(error(other, {.ignore_extra = true}), "has no more"));

  other.checkpoint.save(folder.file("run"));
  CHECK(contains(error(run), "has more i64 [], for which there is nothing here"));
  run.checkpoint.load(folder.file("run"), {.ignore_extra = true});
  CHECK((run.bits() == other.bits()));
}

TEST_CASE("numbers and best scores of another type are refused") {
  const Folder folder;
  int64_t integer = 7;
  double real = 8;
  Checkpoint integers, reals;
  integers.add("n", integer);
  reals.add("n", real);
  integers.save(folder.file("i"));
  CHECK(contains(error_of<FormatError>([&] { reals.load(folder.file("i")); }), "has n i64 [], here it is f64 []"));
  CHECK(real == 8);
  const std::string path = write_bytes(folder.file("best"), file_of(R"({"n":)" + entry("[0,8]", "[]", "\"I64\"") +
                                                                        R"(,"best_score":)" + entry("[8,16]") + "}",
                                                                    std::string(16, '\1')));
  CHECK(contains(error_of<FormatError>([&] { integers.load(path, {.require_checksum = false}); }),
                 "has best_score f32 [2], here it is f64 []"));
  CHECK(integer == 7);
}

TEST_CASE("a Loader's position that it cannot have is refused, and nothing is loaded") {
  const Folder folder;
  const auto position = [&](int64_t epoch, int64_t batch) {
    std::string data(40, '\0');
    std::memcpy(data.data() + 8, &epoch, 8);
    std::memcpy(data.data() + 16, &batch, 8);
    const std::string header = R"({"train":)" + entry("[0,24]", "[3]", "\"I64\"") + R"(,"a":)" +
                               entry("[24,32]", "[]", "\"I64\"") + R"(,"z":)" + entry("[32,40]", "[]", "\"F64\"") + "}";
    return write_bytes(folder.file("x"), file_of(header, data));
  };
  Points data;
  Loader loader(data, {.batch = 4});
  int64_t a = 5;
  double z = 6;
  Checkpoint checkpoint;
  checkpoint.add("a", a);
  checkpoint.add("train", loader);
  checkpoint.add("z", z);
  const auto load = [&](const std::string& path) { checkpoint.load(path, {.require_checksum = false}); };
  for (const auto& [epoch, batch] : std::vector<std::pair<int64_t, int64_t>>{
           {-1, 0}, {INT64_MAX, 0}, {INT64_MIN, 0}, {0, 3}, {0, -1}, {0, INT64_MAX}, {0, INT64_MIN}}) {
    CHECK(contains(error_of<FormatError>([&] { load(position(epoch, batch)); }), "train: Loader: "));
    CHECK(loader.position() == Loader::Position{0, 0, 0});
    CHECK(a == 5);
    CHECK(z == 6);
  }
  load(position(4, 2));
  CHECK(loader.position() == Loader::Position{0, 4, 2});
  CHECK(a == 0);
}
