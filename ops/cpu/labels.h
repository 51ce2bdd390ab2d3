// Labels: class indices of any integer dtype, checked before a kernel writes anything.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include <xent/core/dispatch.h>
#include <xent/core/op.h>
#include <xent/core/require.h>

namespace xent::cpu {

// Throws LabelError for the first label outside [0, classes) that is not the ignored one, and guesses why.
inline void check_labels(const char* op, const Slice& labels, int64_t classes, std::optional<int64_t> ignore = {}) {
  dispatch_index(labels.dtype, [&]<class L>() {
    const L* label = labels.as<L>();
    const int64_t count = labels.shape.elements();
    int64_t bad_row = -1;
    for (int64_t row = 0; row < count && bad_row < 0; ++row) {
      const auto value = static_cast<int64_t>(label[row]);
      if ((value < 0 || value >= classes) && value != ignore) bad_row = row;
    }
    if (bad_row < 0) [[likely]]
      return;

    int64_t least = INT64_MAX, most = INT64_MIN;
    for (int64_t row = 0; row < count; ++row) {
      const auto value = static_cast<int64_t>(label[row]);
      if (value == ignore) continue;
      least = std::min(least, value);
      most = std::max(most, value);
    }
    const auto value = static_cast<int64_t>(label[bad_row]);
    fail<LabelError>("{}: row {}: label {} is not in [0, {}) ({}min {}, max {})", op, bad_row, value, classes,
                     least == 1 && most == classes ? "labels look 1-based: " : "", least, most);
  });
}

}  // namespace xent::cpu
