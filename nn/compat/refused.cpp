#include <xent/nn/compat/refused.h>

namespace xent::compat {

std::string_view name(Cause cause) {
  switch (cause) {
    case Cause::reduction: return "reduction";
    case Cause::rank: return "rank";
    case Cause::shape: return "shape";
    case Cause::weight_shape: return "weight_shape";
    case Cause::ignore_index: return "ignore_index";
    case Cause::label_range: return "label_range";
    case Cause::label_dtype: return "label_dtype";
    case Cause::target_dtype: return "target_dtype";
    case Cause::smoothing: return "smoothing";
    case Cause::no_nonzero_target: return "no_nonzero_target";
    case Cause::axis: return "axis";
    case Cause::weights_none: return "weights_none";
    case Cause::type: return "type";
    case Cause::no_losses: return "no_losses";
  }
  return "?";
}

}  // namespace xent::compat
