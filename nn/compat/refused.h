// Refused: what a function of another system does not accept, with that system's own words.
//
//   try { compat::torch::cross_entropy(input, target, weight); }
//   catch (const compat::Refused& refused) { refused.cause() == compat::Cause::weight_shape; refused.what(); }
//
// A label out of range is a LabelError, as everywhere in xent.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <xent/core/error.h>

namespace xent::compat {

enum class Cause {
  reduction,
  rank,
  shape,
  weight_shape,
  ignore_index,
  label_range,
  label_dtype,
  target_dtype,
  smoothing,
  no_nonzero_target,
  axis,
  weights_none,
  type,
  no_losses,
};

std::string_view name(Cause cause);  // "weight_shape"

class Refused : public Error {
 public:
  Refused(Cause cause, std::string_view type, const std::string& message)
      : Error(message), cause_(cause), type_(type) {}

  Cause cause() const { return cause_; }
  std::string_view type() const { return type_; }  // of the original's exception: "ValueError"

 private:
  Cause cause_;
  std::string_view type_;  // a literal
};

}  // namespace xent::compat
