#include <xent/nn/mnist.h>

#include <filesystem>
#include <string_view>
#include <system_error>

#include <xent/core/require.h>
#include <xent/nn/idx.h>

namespace xent {

namespace {

constexpr int64_t classes = 10;

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Returns the path of a file in a folder, with or without .gz.
std::string find_file(const std::filesystem::path& folder, std::string_view name) {
  for (const char* ending : {"", ".gz"})
    if (auto path = (folder / name).concat(ending); is_file(path)) return path.string();
  std::error_code ignored;
  require<FormatError>(std::filesystem::is_directory(folder, ignored),
                       "load_mnist: there is no folder '{}'; name the one that holds {} or {}.gz", folder.string(),
                       name, name);
  fail<FormatError>("load_mnist: neither {} nor {}.gz is in '{}'", name, name, folder.string());
}

}  // namespace

ImageDataset load_mnist(const std::string& folder, Split split) {
  const std::string prefix = split == Split::train ? "train" : "t10k";
  const std::string images = find_file(folder, prefix + "-images-idx3-ubyte");
  const std::string labels = find_file(folder, prefix + "-labels-idx1-ubyte");
  const Tensor pixels = read_idx(images), digits = read_idx(labels);
  try {
    return ImageDataset(pixels, digits, classes);
  } catch (const Error& error) {  // name the files
    fail<FormatError>("load_mnist: '{}' and '{}' are no data set: {}", images, labels, error.what());
  }
}

std::string find_fashion_mnist() {
  const std::filesystem::path folder = "/usr/share/datasets/fashion-mnist";
  return is_file(folder / "train-images-idx3-ubyte.gz") ? folder.string() : "";
}

}  // namespace xent
