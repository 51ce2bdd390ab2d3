// refuse_unless: require, for what another system refuses. Private (it includes fmt).
//
//   refuse_unless(rank > 0, Cause::rank, "ValueError", "Expected 1 or more dimensions (got {})", rank);
#pragma once

#include <string_view>
#include <utility>

#include <xent/core/require.h>
#include <xent/nn/compat/refused.h>

namespace xent::compat {

template <class... Args>
void refuse_unless(bool condition, Cause cause, std::string_view type, fmt::format_string<Args...> text,
                   Args&&... args) {
  if (!condition) [[unlikely]]
    throw Refused(cause, type, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace xent::compat
