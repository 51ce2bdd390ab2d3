#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>

#include <nlohmann/json.hpp>

#include <xent/core/memory.h>
#include <xent/core/require.h>
#include <xent/nn/atomic_file.h>
#include <xent/nn/safetensors.h>

namespace xent {

static_assert(std::endian::native == std::endian::little, "safetensors: elements are written as they lie in memory");

namespace safetensors {

bool is_name(const std::string& text) {
  try {
    nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {
    return false;  // not UTF-8
  }
  return !text.empty() && text != metadata_key;
}

std::string_view code(DType dtype) {
  switch (dtype) {
    case DType::f32: return "F32";
    case DType::f64: return "F64";
    case DType::f16: return "F16";
    case DType::bf16: return "BF16";
    case DType::u8: return "U8";
    case DType::i32: return "I32";
    case DType::i64: return "I64";
  }
  return "";
}

unsigned long extend_crc(unsigned long crc, const void* bytes, size_t count) {
  return count == 0 ? crc : crc32_z(crc, static_cast<const Bytef*>(bytes), count);
}

std::string checksum_text(unsigned long crc) { return fmt::format("{:08x}", crc); }

}  // namespace safetensors

namespace {

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// Returns length and header, the checksum still zeros.
std::string header_of(const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
  using namespace safetensors;
  std::string text = fmt::format(R"({{"{}":{{"format":"xent",{}{}")", metadata_key, checksum_begin, no_checksum);
  for (const auto& [key, value] : metadata) text += fmt::format(",{}:{}", quoted(key), quoted(value));
  text += '}';
  size_t begin = 0;
  for (const auto& [name, value] : tensors) {
    const size_t end = begin + value.bytes();
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", quoted(name), code(value.dtype()),
                        value.shape(), begin, end);
    begin = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  require<ArgumentError>(text.size() <= largest_header, "checkpoint: names of {} bytes are too many to be read again",
                         text.size());
  const auto length = std::bit_cast<std::array<char, length_bytes>>(static_cast<uint64_t>(text.size()));
  return std::string(length.begin(), length.end()) + text;
}

// Returns the elements on the host: where they are, or copied into a buffer.
const void* on_host(const Tensor& tensor, std::vector<std::byte>& buffer) {
  const Device device = tensor.device();
  const void* elements = tensor.raw();
  if (device == Device::cpu()) return elements;
  buffer.resize(tensor.bytes());
  if (!buffer.empty()) memory(device).copy_to_host(device.index, buffer.data(), elements, buffer.size());
  return buffer.data();
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
  std::vector<NamedTensor> ordered = tensors;
  std::ranges::stable_sort(ordered, std::greater(), [](const NamedTensor& t) { return size_of(t.value.dtype()); });

  unsigned long crc = 0;
  AtomicFile file(path);
  const auto write = [&](const void* bytes, size_t count) {
    crc = safetensors::extend_crc(crc, bytes, count);
    file.write(bytes, count);
  };
  const std::string header = header_of(ordered, metadata);
  write(header.data(), header.size());
  std::vector<std::byte> buffer;
  for (const NamedTensor& tensor : ordered) write(on_host(tensor.value, buffer), tensor.value.bytes());

  const std::string digits = safetensors::checksum_text(crc);
  file.write_at(header.find(safetensors::checksum_begin) + safetensors::checksum_begin.size(), digits.data(),
                digits.size());
  file.commit();
}

}  // namespace xent
