// What random_shift_flip is called with and draws, for the kernels of every device. Private.
#pragma once

#include <array>
#include <cstdint>

#include <xent/core/random.h>
#include <xent/ops/ops.h>

namespace xent {

struct ShiftFlipAttrs {
  ShiftFlipOptions options;
  bool operator==(const ShiftFlipAttrs& other) const {
    const ShiftFlipOptions &a = options, &b = other.options;
    return a.shift == b.shift && a.flip == b.flip && a.fill == b.fill;
  }
};

// How far an image moves, and whether it is mirrored first.
struct ShiftFlipDraw {
  int32_t down, right, flip;
};

constexpr int32_t shift_of(uint32_t word, int64_t most) {
  return static_cast<int32_t>(static_cast<int64_t>(word * static_cast<uint64_t>(2 * most + 1) >> 32) - most);
}

// The draw of an image from its Philox block. These are constexpr so that device code may call them.
constexpr ShiftFlipDraw draw_from(const std::array<uint32_t, 4>& words, const ShiftFlipOptions& options) {
  return {shift_of(words[0], options.shift.height), shift_of(words[1], options.shift.width),
          options.flip ? static_cast<int32_t>(words[2] & 1) : 0};
}

// What undoes a draw: back by (-down, -right); of a flipped image, which is flipped again, by (-down, right).
constexpr ShiftFlipDraw undo(const ShiftFlipDraw& draw) {
  return {-draw.down, draw.flip ? draw.right : -draw.right, draw.flip};
}

}  // namespace xent
