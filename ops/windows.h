// Windows that slide over images, as convolutions and pools do: how many places they have. Private.
#pragma once

#include <algorithm>
#include <cstdint>

#include <xent/core/require.h>
#include <xent/core/shape.h>

namespace xent {

// Returns (extent + 2 padding - dilation (window - 1) - 1) / stride + 1 for an axis of the images. Throws ArgumentError
// for options out of range, ShapeError if the window does not fit.
inline int64_t window_steps(const char* op, const Shape& images, int axis, int64_t window, int64_t stride,
                            int64_t padding, int64_t dilation) {
  constexpr int64_t most = int64_t{1} << 30;  // of each, so that no sum or product of two overflows
  const int64_t extent = images[axis];
  require<ArgumentError>(
      stride >= 1 && stride <= most && dilation >= 1 && dilation <= most && padding >= 0 && padding <= most,
      "{}: stride {}, padding {}, dilation {}: must be at least 1, 0, 1, and at most 2^30", op, stride, padding,
      dilation);
  require<ShapeError>(window >= 1 && window <= most && extent <= most,
                      "{}: a window of {} over an extent of {}: must be 1 to 2^30", op, window, extent);
  const int64_t reach = dilation * (window - 1) + 1, room = extent + 2 * padding;
  require<ShapeError>(reach <= room, "{}: the window reaches over {}, but images {} have {}, padding included", op,
                      reach, images, room);
  return (room - reach) / stride + 1;
}

// Returns [batch, height, width, channels], the shape of what windows over images make. Throws ShapeError naming the op
// if it would be larger than shapes can be: much padding makes much of little.
inline Shape windows_shape(const char* op, const Shape& images, int64_t height, int64_t width, int64_t channels) {
  double elements = 1;  // with extents of 0 left out, as Shape counts them
  for (const int64_t extent : {images[0], height, width, channels})
    elements *= static_cast<double>(std::max<int64_t>(extent, 1));
  require<ShapeError>(elements < 0x1p58, "{}: images {} would become [{}, {}, {}, {}]: too many elements", op, images,
                      images[0], height, width, channels);
  return {images[0], height, width, channels};
}

}  // namespace xent
