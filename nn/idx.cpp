#include <xent/nn/idx.h>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <memory>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <xent/core/dispatch.h>
#include <xent/core/require.h>

namespace xent {

namespace {

constexpr const char* damaged = "the file is cut short or damaged; fetch it again";

// Reads a file that may be gzipped. Whether the checksum holds is known only after a read past the last byte.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {
    file_.reset(gzopen(path.c_str(), "rb"));
    require<FormatError>(file_ != nullptr, "read_idx: '{}': {}", path, std::generic_category().message(errno));
    gzbuffer(file_.get(), 1 << 17);
  }

  // Reads up to `count` bytes; fewer only at the end of the file.
  size_t read(std::byte* to, size_t count) {
    size_t done = 0;
    while (done < count) {
      const auto piece = static_cast<unsigned>(std::min<size_t>(count - done, 1 << 30));
      const int got = gzread(file_.get(), to + done, piece);
      if (got > 0) done += static_cast<size_t>(got);
      if (got == static_cast<int>(piece)) continue;
      int error = Z_OK;
      std::string_view text = gzerror(file_.get(), &error);
      if (text.starts_with(path_))
        text.remove_prefix(std::min(path_.size() + 2, text.size()));  // "path: what is wrong"
      require<FormatError>(error == Z_OK, "read_idx: '{}': {}: {}", path_, text, damaged);
      break;
    }
    return done;
  }

 private:
  struct Close {
    void operator()(gzFile file) const { gzclose_r(file); }
  };
  const std::string& path_;
  std::unique_ptr<std::remove_pointer_t<gzFile>, Close> file_;
};

DType dtype_of_code(const std::string& path, std::byte code) {
  switch (static_cast<int>(code)) {
    case 0x08: return DType::u8;
    case 0x0C: return DType::i32;
    case 0x0D: return DType::f32;
    case 0x0E: return DType::f64;
    default: break;
  }
  fail<FormatError>("read_idx: '{}': unknown dtype 0x{:02X}; u8 (0x08), i32 (0x0C), f32 (0x0D) and f64 (0x0E) are read",
                    path, static_cast<int>(code));
}

// Puts together an element whose most significant byte comes first.
template <class T>
T from_big_endian(const std::byte* bytes) {
  std::array<std::byte, sizeof(T)> element;
  std::copy_n(bytes, sizeof(T), element.begin());
  if constexpr (std::endian::native == std::endian::little) std::ranges::reverse(element);
  return std::bit_cast<T>(element);
}

Shape read_shape(Reader& reader, const std::string& path, size_t rank) {
  require<FormatError>(rank >= 1 && rank <= Shape::max_rank, "read_idx: '{}': rank {} is not in [1, {}]", path, rank,
                       Shape::max_rank);
  std::array<std::byte, 4 * Shape::max_rank> bytes;
  require<FormatError>(reader.read(bytes.data(), 4 * rank) == 4 * rank, "read_idx: '{}': no room for {} extents: {}",
                       path, rank, damaged);
  std::array<int64_t, Shape::max_rank> extents{};
  for (size_t axis = 0; axis < rank; ++axis) extents[axis] = from_big_endian<uint32_t>(bytes.data() + 4 * axis);
  try {
    return Shape(std::span<const int64_t>(extents.data(), rank));
  } catch (const ShapeError& error) {
    fail<FormatError>("read_idx: '{}': {}: {}", path, error.what(), damaged);
  }
}

// Reads exactly `size` bytes and the end of the file, growing as they come.
std::vector<std::byte> read_elements(Reader& reader, const std::string& path, const Shape& shape, size_t size) {
  constexpr size_t step = 1 << 20;
  std::vector<std::byte> bytes;
  while (bytes.size() < size) {
    const size_t had = bytes.size();
    const size_t wanted = std::min(size - had, std::max(step, had));
    bytes.resize(had + wanted);
    const size_t got = reader.read(bytes.data() + had, wanted);
    require<FormatError>(got == wanted, "read_idx: '{}': {} bytes of elements, but shape {} needs {}: {}", path,
                         had + got, shape, size, damaged);
  }
  std::byte more;
  require<FormatError>(reader.read(&more, 1) == 0, "read_idx: '{}': bytes are left over after the {} of shape {}: {}",
                       path, size, shape, damaged);
  return bytes;
}

}  // namespace

Tensor read_idx(const std::string& path) {
  Reader reader(path);
  std::array<std::byte, 4> head;
  require<FormatError>(reader.read(head.data(), 4) == 4, "read_idx: '{}': no IDX header: {}", path, damaged);
  require<FormatError>(head[0] == std::byte{0} && head[1] == std::byte{0},
                       "read_idx: '{}': not an IDX file: begins with {:02X} {:02X}, expected 00 00", path,
                       static_cast<int>(head[0]), static_cast<int>(head[1]));
  const DType dtype = dtype_of_code(path, head[2]);
  const Shape shape = read_shape(reader, path, static_cast<size_t>(head[3]));
  const size_t size = static_cast<size_t>(shape.elements()) * size_of(dtype);
  const std::vector<std::byte> bytes = read_elements(reader, path, shape, size);

  Tensor tensor = Tensor::persistent("read_idx", shape, dtype);
  dispatch(dtype, [&]<class T>() {
    T* values = tensor.mutable_data<T>();
    for (size_t i = 0; i < bytes.size() / sizeof(T); ++i) values[i] = from_big_endian<T>(bytes.data() + i * sizeof(T));
  });
  return tensor;
}

}  // namespace xent
