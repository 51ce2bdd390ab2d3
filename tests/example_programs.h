// The example programs as a test runs them: with a scratch folder, small data, and what they print.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <xent/xent.h>

namespace examples {

namespace fs = std::filesystem;

struct Result {
  int exit_code;
  std::string out, err;
};

inline std::string read(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A folder that goes away with the test.
inline fs::path scratch() {
  static const struct Folder {
    fs::path path = fs::temp_directory_path() / ("xent_examples_" + std::to_string(::getpid()));
    Folder() { fs::create_directories(path); }
    ~Folder() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  } folder;
  return folder.path;
}

inline Result run(const std::string& program, const std::string& arguments = "") {
  const std::string out = scratch() / "out", err = scratch() / "err";
  const int status =
      std::system((std::string(XENT_BIN_DIR) + "/" + program + " " + arguments + " >" + out + " 2>" + err).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
}

inline std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  const size_t begin = text.find_last_of('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1,
                     end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

inline int64_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

// A small data set in MNIST's own files, of generated digits: so many for training, a quarter for the test.
inline std::string small_data(int64_t count = 2000) {
  const fs::path path = scratch() / ("digits_" + std::to_string(count));
  if (fs::create_directories(path)) {
    const auto write = [&](const std::string& prefix, const xent::ImageDataset& data) {
      std::ofstream images(path / (prefix + "-images-idx3-ubyte"), std::ios::binary),
          labels(path / (prefix + "-labels-idx1-ubyte"), std::ios::binary);
      const auto high = static_cast<uint8_t>(data.size() / 256), low = static_cast<uint8_t>(data.size() % 256);
      const std::vector<uint8_t> pixels = data.images().to_vector<uint8_t>(),
                                 classes = data.labels().to_vector<uint8_t>();
      for (const int byte : {0, 0, 8, 3, 0, 0, int{high}, int{low}, 0, 0, 0, 28, 0, 0, 0, 28})
        images.put(static_cast<char>(byte));
      images.write(reinterpret_cast<const char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
      for (const int byte : {0, 0, 8, 1, 0, 0, int{high}, int{low}}) labels.put(static_cast<char>(byte));
      labels.write(reinterpret_cast<const char*>(classes.data()), static_cast<std::streamsize>(classes.size()));
    };
    write("train", xent::generated_digits(count, 1));
    write("t10k", xent::generated_digits(count / 4, 2));
  }
  return path.string();
}

}  // namespace examples
