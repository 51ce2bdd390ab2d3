// LabelRange: finds the first label that is no class, and guesses from all of them what went wrong. Private.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace xent {

struct LabelRange {
  int64_t classes = 0;
  int64_t bad_row = -1, bad = 0;  // the first label outside [0, classes)
  int64_t least = INT64_MAX, most = INT64_MIN;
  bool one_bad_value = true;  // all bad labels are the same number

  void see(int64_t row, int64_t label) {
    least = std::min(least, label);
    most = std::max(most, label);
    if (label >= 0 && label < classes) return;
    if (bad_row < 0) bad_row = row, bad = label;
    else one_bad_value = one_bad_value && label == bad;
  }

  // "row 3: label 7 is not in [0, 4) (labels look 1-based: min 1, max 7)"
  std::string message() const {
    std::string guess;
    if (least == 1 && most == classes) guess = "labels look 1-based: ";
    else if (one_bad_value && (bad == -1 || bad == -100 || bad == 255))
      guess = fmt::format("{} looks like a label to ignore, see target.ignore: ", bad);
    return fmt::format("row {}: label {} is not in [0, {}) ({}min {}, max {})", bad_row, bad, classes, guess, least,
                       most);
  }
};

}  // namespace xent
