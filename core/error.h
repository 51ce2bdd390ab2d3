// Errors: every failure of the library is an exception derived from xent::Error.
//
// The text names the op, the shapes or the offending value, and the way out:
//   softmax_cross_entropy: row 3: label 7 is not in [0, 4) (labels look 1-based: min 1, max 4)
// The library never aborts and never prints.
#pragma once

#include <stdexcept>

namespace xent {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// clang-format off
struct ArgumentError : Error { using Error::Error; };  // a value out of its range: learning rate -1
struct ShapeError    : Error { using Error::Error; };  // shapes that do not fit together
struct DTypeError    : Error { using Error::Error; };  // a dtype that an op does not take
struct LabelError    : Error { using Error::Error; };  // a class label outside [0, classes)
struct DeviceError   : Error { using Error::Error; };  // a missing device or kernel, no memory
struct TapeError     : Error { using Error::Error; };  // a gradient that cannot be computed
struct ReplayError   : Error { using Error::Error; };  // a Step that could not be replayed truthfully
struct FormatError   : Error { using Error::Error; };  // a file that is damaged or of another kind
// clang-format on

}  // namespace xent
