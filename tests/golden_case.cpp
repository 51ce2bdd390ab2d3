#include "golden_case.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/nn/compat/refused.h>

namespace golden {

namespace {

const json& member(const json& object, const char* key, const std::string& where) {
  if (!object.is_object()) throw Malformed(where + " is no object");
  const auto found = object.find(key);
  if (found == object.end()) throw Malformed(where + " has no '" + key + "'");
  return *found;
}

DType parse_dtype(const json& name, const std::string& where) {
  static const std::map<std::string, DType> dtypes = {
      {"float64", DType::f64}, {"float32", DType::f32}, {"float16", DType::f16}, {"bfloat16", DType::bf16},
      {"int64", DType::i64},   {"int32", DType::i32},   {"uint8", DType::u8}};
  const auto found = name.is_string() ? dtypes.find(name.get<std::string>()) : dtypes.end();
  if (found == dtypes.end()) throw Malformed(where + ": " + name.dump() + " is no dtype");
  return found->second;
}

double parse_float(const json& value, const std::string& where) {
  if (value.is_number()) return value.get<double>();
  if (value == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  throw Malformed(where + ": " + value.dump() + " is no number");
}

template <class T>
T parse_integer(const json& value, const std::string& where) {
  const bool large = value.is_number_unsigned() && value.get<uint64_t>() > std::numeric_limits<int64_t>::max();
  if (!value.is_number_integer() || large || !std::in_range<T>(value.get<int64_t>()))
    throw Malformed(where + ": " + value.dump() + " is no integer of the tensor's dtype");
  return static_cast<T>(value.get<int64_t>());
}

// A decimal is rounded to double and then to the dtype. Twice is once here: the shortest decimal of a float32 lies near
// it and not near the middle between two of them, and the decimals of 16-bit numbers are exact.
Tensor read_tensor(const json& entry, const std::string& where) {
  std::vector<int64_t> extents;
  const json &shape = member(entry, "shape", where), &data = member(entry, "data", where);
  if (!shape.is_array() || !data.is_array()) throw Malformed(where + ": shape and data are arrays");
  for (const json& extent : shape) extents.push_back(parse_integer<int64_t>(extent, where + " shape"));
  const xent::Shape parsed{std::span<const int64_t>(extents)};
  if (static_cast<size_t>(parsed.elements()) != data.size())
    throw Malformed(where + ": " + std::to_string(data.size()) + " numbers for shape " + parsed.str());
  return xent::dispatch(parse_dtype(member(entry, "dtype", where), where), [&]<class T>() {
    std::vector<T> values;
    for (const json& value : data)
      if constexpr (std::is_integral_v<T>) values.push_back(parse_integer<T>(value, where));
      else values.push_back(xent::convert<T>(parse_float(value, where)));
    return Tensor::from(values, parsed);
  });
}

template <class Read>
auto read_all(const json& entry, const char* key, Read&& read) {
  std::map<std::string, decltype(read(entry, std::string()))> all;
  const json& tensors = member(entry, key, "the case");
  if (!tensors.is_object()) throw Malformed(std::string("'") + key + "' is no object");
  for (const auto& [name, tensor] : tensors.items()) all[name] = read(tensor, std::string(key) + "." + name);
  return all;
}

double read_tolerance(const json& entry, const char* key, const std::string& where) {
  if (!entry.contains(key)) return 0;
  const json& value = entry.at(key);
  if (!value.is_number() || !(value.get<double>() >= 0) || std::isinf(value.get<double>()))
    throw Malformed(where + ": " + key + " is " + value.dump());
  return value.get<double>();
}

Expected read_expected(const json& entry, const std::string& where) {
  return {read_tensor(entry, where), read_tolerance(entry, "rtol", where), read_tolerance(entry, "atol", where)};
}

std::string read_text(const json& entry, const char* key) {
  const json& value = member(entry, key, "the case");
  if (!value.is_string()) throw Malformed(std::string("'") + key + "' is no string");
  return value;
}

std::optional<std::string> read_cause(const json& entry) {
  const json& error = member(entry, "error", "the case");
  if (error.is_null()) return {};
  const json& cause = member(error, "cause", "error");
  if (!cause.is_string()) throw Malformed("the error's cause is no string");
  const auto text = cause.get<std::string>();
  for (int i = 0; i <= static_cast<int>(xent::compat::Cause::no_losses); ++i)
    if (text == xent::compat::name(static_cast<xent::compat::Cause>(i))) return text;
  throw Malformed("the error's cause '" + text + "' is none of ours");
}

std::optional<bool> read_warns(const json& entry) {
  const auto found = entry.find("warnings");
  if (found == entry.end() || found->is_null()) return {};
  if (!found->is_array()) throw Malformed("'warnings' is no array");
  return !found->empty();
}

bool among(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

// ---- arguments ----

Arguments::Arguments(const json& object, std::string where) : values_(object), where_(std::move(where)) {
  if (!object.is_object()) throw Malformed(where_ + " is no object");
}

void Arguments::only(std::initializer_list<std::string_view> names) const {
  for (const auto& [name, value] : values_.items())
    if (!among(name, names)) throw Malformed(where_ + ": unknown argument '" + name + "'");
}

const json& Arguments::at(const char* name) const { return member(values_, name, where_); }

void Arguments::refuse(const char* name, const char* expected) const {
  throw xent::compat::Refused(
      xent::compat::Cause::type, "TypeError",
      where_ + ": " + name + " is " + values_.at(name).dump() + ", where C++ takes " + expected);
}

std::string Arguments::text(const char* name, std::string otherwise) const {
  if (!has(name)) return otherwise;
  if (!at(name).is_string()) refuse(name, "a string");
  return at(name);
}

int64_t Arguments::integer(const char* name, int64_t otherwise) const {
  if (!has(name)) return otherwise;
  const json& value = at(name);
  if (!value.is_number_integer() || (value.is_number_unsigned() && !std::in_range<int64_t>(value.get<uint64_t>())))
    refuse(name, "an int64");
  return value;
}

double Arguments::number(const char* name, double otherwise) const {
  if (!has(name)) return otherwise;
  const json& value = at(name);
  if (value.is_number()) return value;
  if (value.is_boolean()) return value.get<bool>();
  if (!among(value.is_string() ? value.get<std::string>() : "", {"nan", "inf", "-inf"})) refuse(name, "a number");
  return parse_float(value, where_);
}

bool Arguments::flag(const char* name, bool otherwise) const {
  if (!has(name)) return otherwise;
  const json& value = at(name);
  if (value == 0 || value == 1) return value == 1;
  if (!value.is_boolean()) refuse(name, "a bool");
  return value;
}

DType Arguments::dtype(const char* name, DType otherwise) const { return optional_dtype(name).value_or(otherwise); }

std::optional<std::string> Arguments::optional_text(const char* name, std::optional<std::string> otherwise) const {
  if (!has(name)) return otherwise;
  return none(name) ? std::optional<std::string>() : text(name, "");
}

std::optional<int64_t> Arguments::optional_integer(const char* name) const {
  return !has(name) || none(name) ? std::optional<int64_t>() : integer(name, 0);
}

std::optional<double> Arguments::optional_number(const char* name) const {
  return !has(name) || none(name) ? std::optional<double>() : number(name, 0);
}

std::optional<bool> Arguments::optional_flag(const char* name) const {
  return !has(name) || none(name) ? std::optional<bool>() : flag(name, false);
}

std::optional<DType> Arguments::optional_dtype(const char* name) const {
  return !has(name) || none(name) ? std::optional<DType>() : parse_dtype(at(name), where_ + " " + name);
}

// ---- a case ----

const Tensor& Case::input(const std::string& key) const {
  const auto found = inputs.find(key);
  if (found == inputs.end()) throw Malformed("there is no input '" + key + "'");
  return found->second;
}

Tensor Case::optional_input(const std::string& key) const {
  const auto found = inputs.find(key);
  return found == inputs.end() ? Tensor() : found->second;
}

void Case::only_inputs(std::initializer_list<std::string_view> names) const {
  for (const auto& [key, tensor] : inputs)
    if (!among(key, names)) throw Malformed("unknown input '" + key + "'");
}

Case read_case(const json& entry) {
  Tensors arriving = read_all(entry, "grad_outputs", read_tensor);
  Case read = {.api = read_text(entry, "api"),
               .name = read_text(entry, "name"),
               .args = Arguments(member(entry, "args", "the case"), "args"),
               .inputs = read_all(entry, "inputs", read_tensor),
               .upstream = arriving["output"],
               .outputs = read_all(entry, "outputs", read_expected),
               .grads = read_all(entry, "grads", read_expected),
               .cause = read_cause(entry),
               .warns = read_warns(entry)};
  if (arriving.size() > 1) throw Malformed("grad_outputs of something else than 'output'");
  if (!read.cause && read.outputs.empty()) throw Malformed("neither outputs nor an error: there is nothing to compare");
  if (!read.grads.empty() && !read.upstream) throw Malformed("grads without grad_outputs.output");
  return read;
}

std::string label(const json& entry) {
  const auto text = [&](const char* key) {
    const bool there = entry.is_object() && entry.contains(key) && entry.at(key).is_string();
    return there ? entry.at(key).get<std::string>() : std::string("?");
  };
  return text("api") + " " + text("name");
}

}  // namespace golden
