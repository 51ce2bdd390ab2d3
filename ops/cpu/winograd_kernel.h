// The table of Winograd's transforms, one per instruction set: cpu/winograd.h says what they are for, and
// cpu/winograd_transforms.h how they are computed.
//
// In the transformed domain a tile is one element in each of 36 planes, for every channel; channels there are padded to
// a multiple of 16 with zeros.
#pragma once

#include <cstdint>

namespace xent::cpu {

// The pixels of an image under a tile, of which some may be outside.
struct WinogradPatch {
  int64_t at;        // the element of the image that row 0, column 0 would be, inside or not
  int64_t line;      // elements from one row of the image to the next
  int64_t channels;  // elements from one pixel to the next
  int64_t first_row, last_row, first_column, last_column;  // those inside the image
};

struct WinogradKernel {
  // v = B' d B of the 6 x 6 pixels d of an image, 0 outside; and dx += B dv B', the transposed map.
  void (*image)(const float* x, const WinogradPatch& patch, float* v, int64_t plane);
  void (*image_grad)(const float* dv, int64_t plane, const WinogradPatch& patch, float* dx);

  // y = A' m A, of 4 x 4 pixels, then max(y, 0) if relu.
  void (*result)(const float* m, int64_t plane, const WinogradPatch& patch, bool relu, float* y);

  // w = A dz A' of dz = dy f'(z), for each Activation f.
  void (*result_grad[4])(const float* y, const float* dy, const WinogradPatch& patch, float* w, int64_t plane);

  // The same, of which only the largest of each 2 x 2 is written, and which it was: 0 to 3, row by row. The patch is of
  // the 2 x 2 largest. Its gradient, for no activation and for relu, has dz where they were and 0 elsewhere.
  void (*pooled)(const float* m, int64_t plane, const WinogradPatch& patch, bool relu, float* y, uint8_t* place);
  void (*pooled_grad[2])(const float* y, const float* dy, const uint8_t* place, const WinogradPatch& patch, float* w,
                         int64_t plane);

  // u = G g G' of so many neighbours in one row of the weight, whose taps are so far apart, padded with zeros to a
  // multiple of 16.
  void (*weight)(const float* g, int64_t tap, int64_t columns, float* u, int64_t plane);

  // dg = G' du G of a row.
  void (*weight_grad)(const float* du, int64_t plane, int64_t columns, float* dg, int64_t tap);
};

namespace avx2 {
extern const WinogradKernel winograd;
}  // namespace avx2
namespace avx512 {
extern const WinogradKernel winograd;
}  // namespace avx512

}  // namespace xent::cpu
