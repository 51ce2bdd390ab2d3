// protobuf_reader: as much of the protobuf wire format, and of ONNX's messages, as the files of its node tests need.
//
//   OnnxNode node = read_onnx_node("test_sce_mean_weight_ii/model.onnx");  // node.op: "SoftmaxCrossEntropyLoss"
//   Tensor scores = read_onnx_tensor("test_sce_mean_weight_ii/test_data_set_0/input_0.pb");
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <xent/core/error.h>
#include <xent/core/tensor.h>

struct ProtobufField {
  uint64_t number = 0;
  uint64_t value = 0;      // of a varint
  std::string_view bytes;  // of a string, of packed numbers, of a message
};

// Takes a varint off the front: seven bits a byte, the lowest first, and a bit that says whether more follow.
inline uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return value;
  }
  throw xent::FormatError("protobuf: a number does not end");
}

inline std::string_view take_bytes(std::string_view& bytes, uint64_t count) {
  if (count > bytes.size()) throw xent::FormatError("protobuf: a field is longer than its message");
  const std::string_view taken = bytes.substr(0, count);
  bytes.remove_prefix(count);
  return taken;
}

inline std::vector<ProtobufField> read_fields(std::string_view message) {
  std::vector<ProtobufField> fields;
  while (!message.empty()) {
    const uint64_t tag = take_varint(message);
    ProtobufField field;
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0: field.value = take_varint(message); break;
      case 1: field.bytes = take_bytes(message, 8); break;
      case 2: field.bytes = take_bytes(message, take_varint(message)); break;
      case 5: field.bytes = take_bytes(message, 4); break;
      default: throw xent::FormatError("protobuf: an unknown wire type");
    }
    fields.push_back(field);
  }
  return fields;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw xent::FormatError(path.string() + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

template <xent::Element T>
xent::Tensor tensor_of_bytes(const xent::Shape& shape, std::string_view raw) {
  std::vector<T> values(raw.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), raw.data(), values.size() * sizeof(T));  // both little-endian
  return xent::Tensor::from(values, shape);
}

// Reads a TensorProto: dims (1), data_type (2), raw_data (9).
inline xent::Tensor parse_onnx_tensor(std::string_view message) {
  std::vector<int64_t> extents;
  uint64_t type = 0;
  std::string_view raw;
  for (const ProtobufField& field : read_fields(message)) {
    if (field.number == 1 && field.bytes.empty()) extents.push_back(static_cast<int64_t>(field.value));
    if (field.number == 1)
      for (std::string_view packed = field.bytes; !packed.empty();)
        extents.push_back(static_cast<int64_t>(take_varint(packed)));
    if (field.number == 2) type = field.value;
    if (field.number == 9) raw = field.bytes;
  }
  const xent::Shape shape{std::span<const int64_t>(extents)};
  switch (type) {
    case 1: return tensor_of_bytes<float>(shape, raw);
    case 6: return tensor_of_bytes<int32_t>(shape, raw);
    case 7: return tensor_of_bytes<int64_t>(shape, raw);
    case 11: return tensor_of_bytes<double>(shape, raw);
    default: throw xent::FormatError("onnx: a tensor of type " + std::to_string(type));
  }
}

inline xent::Tensor read_onnx_tensor(const std::filesystem::path& path) { return parse_onnx_tensor(read_file(path)); }

struct OnnxNode {
  std::string op;
  size_t inputs = 0, outputs = 0;
  std::map<std::string, int64_t> integers;
  std::map<std::string, std::string> strings;
};

// Reads a NodeProto: input (1), output (2), op_type (4), attribute (5) with name (1), i (3), s (4), type (20).
inline OnnxNode parse_onnx_node(std::string_view message) {
  OnnxNode node;
  for (const ProtobufField& field : read_fields(message)) {
    if (field.number == 1) ++node.inputs;
    if (field.number == 2) ++node.outputs;
    if (field.number == 4) node.op = field.bytes;
    if (field.number != 5) continue;
    std::string name, text;
    uint64_t integer = 0, type = 0;
    for (const ProtobufField& part : read_fields(field.bytes)) {
      if (part.number == 1) name = part.bytes;
      if (part.number == 3) integer = part.value;
      if (part.number == 4) text = part.bytes;
      if (part.number == 20) type = part.value;
    }
    if (type == 2) node.integers[name] = static_cast<int64_t>(integer);
    if (type == 3) node.strings[name] = text;
  }
  return node;
}

// Reads the first node (1) of a model's graph (7).
inline OnnxNode read_onnx_node(const std::filesystem::path& path) {
  const std::string model = read_file(path);
  for (const ProtobufField& field : read_fields(model))
    if (field.number == 7)
      for (const ProtobufField& part : read_fields(field.bytes))
        if (part.number == 1) return parse_onnx_node(part.bytes);
  throw xent::FormatError(path.string() + ": has no node");
}
