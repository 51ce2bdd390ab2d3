#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>

#include <xent/core/require.h>
#include <xent/nn/atomic_file.h>
#include <xent/nn/safetensors.h>

namespace xent {

namespace {

using nlohmann::json;
using namespace safetensors;

constexpr const char* damaged = "the file is damaged, or no checkpoint";
constexpr fmt::string_view no_checksum_of_ours = "checkpoint: '{}': '{:.100}' is no checksum of ours: {}";
constexpr size_t largest_read = 1 << 30;  // systems give no more than 2 GiB at once

[[noreturn]] void fail_with(const std::string& path, int error) {
  fail<Error>("checkpoint: '{}': {}", path, std::generic_category().message(error));
}

// What no machine of this size can hold is not even tried: where memory is promised freely, reading it would be fatal.
bool may_fit(size_t bytes) {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages <= 0 || page <= 0 || bytes / static_cast<size_t>(page) < static_cast<size_t>(pages);
}

struct Contents {
  std::unique_ptr<std::byte[]> bytes;
  size_t size = 0;
};

Contents read_file(const std::string& path) {
  require<ArgumentError>(path.find('\0') == std::string::npos, "checkpoint: '{}': a zero byte in the path",
                         path.c_str());
  struct stat status;
  if (stat(path.c_str(), &status) != 0) fail_with(path, errno);
  require<Error>(S_ISREG(status.st_mode), "checkpoint: '{}' is {}; give the path of a file", path,
                 S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
  const Descriptor file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file || fstat(file.number(), &status) != 0) fail_with(path, errno);

  Contents contents{.bytes = nullptr, .size = static_cast<size_t>(status.st_size)};
  if (may_fit(contents.size)) contents.bytes.reset(new (std::nothrow) std::byte[contents.size]);
  require<DeviceError>(contents.bytes != nullptr, "checkpoint: '{}': no memory for its {} bytes", path, contents.size);
  for (size_t done = 0; done < contents.size;) {
    const ssize_t got = read(file.number(), contents.bytes.get() + done, std::min(contents.size - done, largest_read));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with(path, errno);
    require<FormatError>(got > 0, "checkpoint: '{}' became shorter while it was read", path);
    done += static_cast<size_t>(got);
  }
  return contents;
}

std::string_view header_in(const std::string& path, const Contents& file) {
  require<FormatError>(file.size >= length_bytes, "checkpoint: '{}' has {} bytes: {}", path, file.size, damaged);
  uint64_t length = 0;
  std::memcpy(&length, file.bytes.get(), length_bytes);
  require<FormatError>(length <= largest_header, "checkpoint: '{}': a header of {} bytes, more than {}: {}", path,
                       length, largest_header, damaged);
  require<FormatError>(length <= file.size - length_bytes, "checkpoint: '{}': a header of {} bytes in a file of {}: {}",
                       path, length, file.size, damaged);
  const std::string_view header(reinterpret_cast<const char*>(file.bytes.get()) + length_bytes, length);
  require<FormatError>(header.starts_with('{'), "checkpoint: '{}': the header is no JSON object: {}", path, damaged);
  require<FormatError>(header.find('\0') == std::string_view::npos,  // where the parser would stop, and be content
                       "checkpoint: '{}': the header has a zero byte: {}", path, damaged);
  return header;
}

// Parses a header, which nests no deeper than {"name": {"shape": [1]}} and names nothing twice.
json parse(const std::string& path, std::string_view header) {
  std::vector<std::set<std::string>> keys;  // of the objects around
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    require<FormatError>(depth <= 3, "checkpoint: '{}': the header nests too deep: {}", path, damaged);
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      require<FormatError>(keys.back().insert(key).second, "checkpoint: '{}': '{:.100}' is in the header twice: {}",
                           path, key, damaged);
    }
    return true;
  };
  try {
    return json::parse(header.begin(), header.end(), watch);
  } catch (const json::parse_error& error) {
    fail<FormatError>("checkpoint: '{}': the header is no JSON from its byte {} on: {}", path, error.byte, damaged);
  } catch (const json::exception&) {  // a number that no double holds
    fail<FormatError>("checkpoint: '{}': the header has a number out of range: {}", path, damaged);
  }
}

// Takes the metadata out of a header.
Metadata take_metadata(const std::string& path, json& header) {
  Metadata metadata;
  const auto found = header.find(metadata_key);
  if (found == header.end()) return metadata;
  require<FormatError>(found->is_object(), "checkpoint: '{}': the metadata is no JSON object: {}", path, damaged);
  for (const auto& [key, value] : found->items()) {
    require<FormatError>(value.is_string(), "checkpoint: '{}': metadata '{:.100}' is no text: {}", path, key, damaged);
    metadata[key] = value.get<std::string>();
  }
  header.erase(found);
  return metadata;
}

// Compares a file with the checksum in its header and returns that; empty: there is none. A header that is not parsed
// yet will do, so that the parser sees no damage.
std::string_view check_sum(const std::string& path, const Contents& file, std::string_view header, bool required) {
  const size_t key = header.find(checksum_begin);
  if (key == std::string_view::npos || header[key - 1] == '\\') {  // a quote of the end of some other key
    require<FormatError>(!required,
                         "checkpoint: '{}' has no checksum: it is damaged, or another program wrote it; if so, load it "
                         "with .require_checksum = false",
                         path);
    return {};
  }
  const size_t digits = key + checksum_begin.size();
  const std::string_view stored = header.substr(digits, header.find('"', digits) - digits);
  require<FormatError>(stored.size() == no_checksum.size(), no_checksum_of_ours, path, stored, damaged);
  const size_t before = length_bytes + digits, after = before + no_checksum.size();
  unsigned long crc = extend_crc(0, file.bytes.get(), before);
  crc = extend_crc(crc, no_checksum.data(), no_checksum.size());
  crc = extend_crc(crc, file.bytes.get() + after, file.size - after);
  require<FormatError>(checksum_text(crc) == stored,
                       "checkpoint: '{}': the checksum is {}, but {} was stored: the file is damaged, or another "
                       "program changed it; such a program has to leave out the metadata '{}'",
                       path, checksum_text(crc), stored, checksum_key);
  return stored;
}

// What is wrong with a header's entry for one tensor.
struct Check {
  const std::string& path;
  const std::string& name;

  void operator()(bool holds, std::string_view otherwise) const {
    require<FormatError>(holds, "checkpoint: '{}': '{:.100}' {}: {}", path, name, otherwise, damaged);
  }
};

DType dtype_of_code(const Check& check, const json& text) {
  check(text.is_string(), "has a dtype that is no text");
  const auto& given = text.get_ref<const std::string&>();
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8, DType::i32, DType::i64})
    if (given == code(dtype)) return dtype;
  fail<FormatError>("checkpoint: '{}': '{:.100}' has dtype '{:.100}'; F64, F32, F16, BF16, I64, I32 and U8 are read",
                    check.path, check.name, given);
}

Shape shape_of(const Check& check, const json& extents) {
  check(extents.is_array() && extents.size() <= Shape::max_rank, "has a shape that is no list of at most 8 extents");
  std::array<int64_t, Shape::max_rank> values{};
  for (size_t axis = 0; axis < extents.size(); ++axis) {
    check(extents[axis].is_number_unsigned() && extents[axis].get<uint64_t>() <= INT64_MAX,
          "has an extent that is no whole number from 0 to 2^63 - 1");
    values[axis] = extents[axis].get<int64_t>();
  }
  try {
    return Shape(std::span<const int64_t>(values.data(), extents.size()));
  } catch (const ShapeError& error) {
    check(false, error.what());
    throw;
  }
}

struct Entry {
  const std::string* name;
  DType dtype;
  Shape shape;
  uint64_t begin, end;  // in the data
};

Entry entry_of(const std::string& path, const std::string& name, const json& fields) {
  const Check check{path, name};
  check(fields.is_object() && fields.size() == 3 && fields.contains("dtype") && fields.contains("shape") &&
            fields.contains("data_offsets"),
        "has not just dtype, shape and data_offsets");
  const json& offsets = fields["data_offsets"];
  check(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
        "has data_offsets that are not two whole numbers from 0");
  const Entry entry{.name = &name,
                    .dtype = dtype_of_code(check, fields["dtype"]),
                    .shape = shape_of(check, fields["shape"]),
                    .begin = offsets[0].get<uint64_t>(),
                    .end = offsets[1].get<uint64_t>()};
  const uint64_t size = entry.end - entry.begin, element = size_of(entry.dtype);  // divided: a product might overflow
  check(entry.begin <= entry.end && size % element == 0 &&
            size / element == static_cast<uint64_t>(entry.shape.elements()),
        "has data_offsets that do not fit its shape");
  return entry;
}

TensorFile read_all(const std::string& path, bool require_checksum) {
  Contents file = read_file(path);
  const std::string_view text = header_in(path, file);
  const std::string_view checksum = check_sum(path, file, text, require_checksum);
  json header = parse(path, text);
  TensorFile result;
  result.metadata = take_metadata(path, header);
  if (const auto stored = result.metadata.find(checksum_key); stored != result.metadata.end())
    require<FormatError>(stored->second == checksum, no_checksum_of_ours, path, stored->second, damaged);

  std::vector<Entry> entries;
  for (auto at = header.begin(); at != header.end(); ++at) entries.push_back(entry_of(path, at.key(), *at));
  std::ranges::sort(entries, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  const std::byte* data = file.bytes.get() + length_bytes + text.size();
  const uint64_t size = file.size - length_bytes - text.size();
  uint64_t next = 0;
  for (const Entry& entry : entries) {
    require<FormatError>(entry.begin == next && entry.end <= size,
                         "checkpoint: '{}': '{:.100}' has bytes [{}, {}), expected them from {} on and up to {}: {}",
                         path, *entry.name, entry.begin, entry.end, next, size, damaged);
    result.tensors.emplace(*entry.name, StoredTensor{entry.dtype, entry.shape, data + entry.begin});
    next = entry.end;
  }
  require<FormatError>(next == size, "checkpoint: '{}': {} bytes of elements, but {} bytes follow the header: {}", path,
                       next, size, damaged);
  result.contents = std::move(file.bytes);
  return result;
}

}  // namespace

TensorFile read_safetensors(const std::string& path, bool require_checksum) {
  try {
    return read_all(path, require_checksum);
  } catch (const std::bad_alloc&) {  // a header that is large, and larger when it is parsed
    fail<DeviceError>("checkpoint: '{}': no memory to read its header", path);
  }
}

}  // namespace xent
