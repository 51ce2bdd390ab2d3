// Files for the tests of readers: a folder that goes away with the test, and IDX bytes written by hand.
#pragma once

#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace data_files {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "xent_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path() const { return path_.string(); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }

  std::string write(const std::string& name, const std::vector<uint8_t>& bytes) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return file(name);
  }

  std::string write_gzip(const std::string& name, const std::vector<uint8_t>& bytes) const {
    const gzFile out = gzopen(file(name).c_str(), "wb");
    gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(out);
    return file(name);
  }

  std::vector<uint8_t> read(const std::string& name) const {
    std::ifstream in(path_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

 private:
  std::filesystem::path path_;
};

// The bytes of an IDX file: magic, big-endian extents, and the elements as they are given.
inline std::vector<uint8_t> idx(uint8_t code, const std::vector<uint32_t>& extents,
                                const std::vector<uint8_t>& elements) {
  std::vector<uint8_t> bytes = {0, 0, code, static_cast<uint8_t>(extents.size())};
  for (const uint32_t extent : extents)
    for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<uint8_t>(extent >> shift));
  bytes.insert(bytes.end(), elements.begin(), elements.end());
  return bytes;
}

// What a call throws: the text of the expected exception, or "" for none. Other exceptions pass.
template <class E, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace data_files
