// safetensors: named tensors in a file, as https://github.com/huggingface/safetensors writes them:
//
//   u64     bytes of the header, little-endian
//   header  JSON, padded with spaces to a multiple of 8 bytes:
//           {"__metadata__": {"format": "xent", "crc32": "0a1b2c3d"},
//            "fc1.weight": {"dtype": "F32", "shape": [784, 512], "data_offsets": [0, 1605632]}, ...}
//   data    the elements one tensor after the other, row-major, little-endian; no byte is left over
//
// The checksum is zlib's crc32 of the whole file with its own eight digits taken as zeros. Others neither write nor
// check it. Private to checkpoints.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <xent/nn/module.h>

namespace xent {

using Metadata = std::map<std::string, std::string>;

// Writes a file atomically (atomic_file.h): larger elements first, so that all are aligned, otherwise in the order
// given. The same tensors and metadata give the same bytes. Throws Error.
void write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors, const Metadata& metadata);

// A tensor in a file that was read.
struct StoredTensor {
  DType dtype;
  Shape shape;
  const std::byte* bytes;  // not aligned
};

struct TensorFile {
  std::map<std::string, StoredTensor> tensors;
  Metadata metadata;
  std::unique_ptr<std::byte[]> contents;  // what `bytes` points into
};

// Reads a file and checks all of it. Throws FormatError that says what is wrong with it, Error if it cannot be read,
// DeviceError if there is no memory for it. A
// checksum that is there must hold; one must be there unless a file of others is welcome.
TensorFile read_safetensors(const std::string& path, bool require_checksum);

// What both need to know of the format.
namespace safetensors {

inline constexpr size_t length_bytes = 8;
inline constexpr size_t largest_header = 100'000'000;  // others read no larger one either
inline constexpr const char* metadata_key = "__metadata__";
inline constexpr const char* checksum_key = "crc32";
inline constexpr std::string_view checksum_begin = R"("crc32":")";  // in the header; its digits follow
inline constexpr std::string_view no_checksum = "00000000";

bool is_name(const std::string& text);  // that a tensor can have: UTF-8, not empty, not the metadata's
std::string_view code(DType dtype);     // "F32"
unsigned long extend_crc(unsigned long crc, const void* bytes, size_t count);  // zlib's; that of no bytes is 0
std::string checksum_text(unsigned long crc);                                  // 8 digits, lower case

}  // namespace safetensors

}  // namespace xent
