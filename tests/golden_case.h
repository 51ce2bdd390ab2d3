// A case of a golden file: a call, and what the original made of it. tests/golden/README.md has the format.
#pragma once

#include <initializer_list>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

#include <xent/core/tensor.h>

namespace golden {

using nlohmann::json;
using xent::DType;
using xent::Tensor;

// A file or case that says what cannot be understood. It fails; it is never skipped.
struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Expected {
  Tensor values;
  double rtol = 0, atol = 0;
};

// The keyword arguments of a call. One that is absent has the default given here; one that C++ would not convert is
// refused with the cause `type`, as Python code refuses it when it runs.
class Arguments {
 public:
  Arguments(const json& object, std::string where);

  // Throws Malformed for an argument of another name.
  void only(std::initializer_list<std::string_view> names) const;

  bool has(const char* name) const { return values_.contains(name); }
  bool none(const char* name) const { return has(name) && values_.at(name).is_null(); }
  const json& at(const char* name) const;  // Malformed if it is absent

  std::string text(const char* name, std::string otherwise) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  double number(const char* name, double otherwise) const;
  bool flag(const char* name, bool otherwise) const;
  DType dtype(const char* name, DType otherwise) const;  // null is the default too

  // null is none.
  std::optional<std::string> optional_text(const char* name, std::optional<std::string> otherwise = {}) const;
  std::optional<int64_t> optional_integer(const char* name) const;
  std::optional<double> optional_number(const char* name) const;
  std::optional<bool> optional_flag(const char* name) const;
  std::optional<DType> optional_dtype(const char* name) const;

 private:
  [[noreturn]] void refuse(const char* name, const char* expected) const;
  json values_;
  std::string where_;
};

using Tensors = std::map<std::string, Tensor>;
using ExpectedTensors = std::map<std::string, Expected>;

struct Case {
  std::string api, name;
  Arguments args;
  Tensors inputs;
  Tensor upstream;  // what arrives at the output; an empty handle if the file gives none
  ExpectedTensors outputs, grads;
  std::optional<std::string> cause;  // of the error
  std::optional<bool> warns;         // nothing: not compared

  // Returns an input. Throws Malformed if it is absent.
  const Tensor& input(const std::string& name) const;
  Tensor optional_input(const std::string& name) const;  // an empty handle if it is absent

  // Throws Malformed for an input of another name.
  void only_inputs(std::initializer_list<std::string_view> names) const;
};

// Throws Malformed, or an error of the library for a shape that cannot be.
Case read_case(const json& entry);

// Returns "api name" as far as the entry has them, to say which one failed.
std::string label(const json& entry);

}  // namespace golden
