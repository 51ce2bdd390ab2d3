// Labels: class indices of any integer dtype, checked before a kernel writes anything.
#pragma once

#include <cstdint>
#include <optional>

#include <xent/core/dispatch.h>
#include <xent/core/op.h>
#include <xent/core/require.h>
#include <xent/ops/label_guess.h>

namespace xent::cpu {

// Throws LabelError for the first label outside [0, classes) that is not the ignored one, and guesses why.
inline void check_labels(const char* op, const Slice& labels, int64_t classes, std::optional<int64_t> ignore = {}) {
  dispatch_index(labels.dtype, [&]<class L>() {
    const L* label = labels.as<L>();
    const int64_t count = labels.shape.elements();
    bool bad = false;
    for (int64_t row = 0; row < count && !bad; ++row) {
      const auto value = static_cast<int64_t>(label[row]);
      bad = (value < 0 || value >= classes) && value != ignore;
    }
    if (!bad) [[likely]]
      return;
    LabelRange range{.classes = classes};
    for (int64_t row = 0; row < count; ++row)
      if (const auto value = static_cast<int64_t>(label[row]); value != ignore) range.see(row, value);
    fail<LabelError>("{}: {}", op, range.message());
  });
}

}  // namespace xent::cpu
