// Outcome: what a call gave, in numbers or as an exception. Case: a corner of a system, what the original does there,
// and how to ask ours.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <xent/xent.h>

namespace conformance {

using Numbers = std::vector<double>;
inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Logits 0 and ln 3 have the probabilities 1/4 and 3/4, and so losses and gradients that can be told by looking.
inline const double ln3 = std::log(3.0), ln4 = std::log(4.0), ln43 = std::log(4.0 / 3), ln2 = std::log(2.0);
inline constexpr double ln4_in_f16 = 1.38671875;

struct Outcome {
  std::optional<Numbers> loss, gradient;  // those that were asked for
  size_t columns = 1;                     // of the gradient, for printing
  std::string type, words;                // of the exception, which is the original's or one of xent's; empty: none
  bool warned = false;

  bool refused() const { return !type.empty(); }
  std::string str() const;  // "loss 1.3863, gradient -0.75 0.75"
};

// What the original does, as far as it can be checked.
struct Expected {
  enum class Kind {
    gives,      // these numbers
    raises,     // an exception of this type with these words in it
    undefined,  // the original reads out of bounds, ends the process, ...: ours must refuse
    defined,    // likewise, but these numbers are what it means, and what ours gives
    differs,    // the original is well defined, and ours gives these numbers on purpose
    stricter,   // the original is well defined, and ours refuses on purpose
  };
  Kind kind;
  Numbers loss = {}, gradient = {};
  std::string type = {}, words = {};
  bool warns = false;
};

inline Expected gives(Numbers loss, Numbers gradient) { return {Expected::Kind::gives, loss, gradient}; }
inline Expected warns(Expected expected) { return expected.warns = true, expected; }
inline Expected raises(std::string type, std::string words) {
  return {Expected::Kind::raises, {}, {}, std::move(type), std::move(words)};
}
inline Expected undefined() { return {Expected::Kind::undefined}; }
inline Expected defined(Numbers loss, Numbers gradient) { return {Expected::Kind::defined, loss, gradient}; }
inline Expected differs(Numbers loss, Numbers gradient) { return {Expected::Kind::differs, loss, gradient}; }
inline Expected stricter() { return {Expected::Kind::stricter}; }

struct Case {
  std::string corner;
  std::string original;  // in words
  Expected expected;
  std::function<Outcome()> ours;
};

struct System {
  std::string name, about;
  std::vector<Case> cases;
};

// The word of the last column: "same", "same error", "refused", "defined", "differs", "stricter"; "WRONG" where ours is
// not what was expected.
std::string verdict(const Case& tested, const Outcome& outcome);

// Calls loss() under a tape that watches x, and backward with ones.
Outcome on_tape(const xent::Tensor& x, const std::function<xent::Tensor()>& loss);
// Calls a function that returns a gradient.
Outcome gradient_of(const std::function<xent::Tensor()>& gradient);

// Tensors from numbers; a matrix of no rows has two columns.
xent::Tensor matrix(std::vector<Numbers> rows, xent::DType dtype = xent::DType::f32);
xent::Tensor vector(const Numbers& numbers, xent::DType dtype = xent::DType::f32);
xent::Tensor labels(const std::vector<int64_t>& numbers);
xent::Tensor quarters(xent::DType dtype = xent::DType::f32);  // 0, ln 3; ln 3, 0
xent::Tensor log_quarters();                                  // their log-probabilities

System onnxruntime_cpu();
System onnxruntime_dense();
System onnxruntime_cuda();
System onnx_function();
System mxnet();
System composer();
System torch();
System tensorflow();

}  // namespace conformance
