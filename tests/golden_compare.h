// Comparing what a call gave with what a golden file says.
#pragma once

#include <optional>
#include <string>

#include "golden_case.h"

namespace golden {

// Returns what is wrong with a tensor, in a few words, or nothing: shape and dtype are exact, and every element is
//   |got - want| <= atol + rtol |want|
// with NaN equal to NaN, an infinity to one of the same sign, and -0 to 0.
std::optional<std::string> difference(const Tensor& got, const Expected& want);

// The same for all that are expected, by name. More than that may have been computed.
std::optional<std::string> difference(const char* kind, const Tensors& got, const ExpectedTensors& want);

// The cause that files give to what a call threw.
std::string cause_of(const std::exception& error);

}  // namespace golden
