// Convolutions of 3 x 3 with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3), forward and backward.
//
// The result is cut into tiles of 4 x 4 pixels, each from 6 x 6 of the image. With V = B' d B of a tile's pixels d and
// U = G g G' of the taps g, for each of 36 planes p, all channels and many tiles at once:
//   forward:   M_p = V_p U_p,           y = A' M A + bias
//   backward:  W = A dz A',             dU_p = V_p' W_p,  dg = G' dU G,  dV_p = W_p U_p',  dx += B dV B'
// so one W serves both gradients. The planes of some tiles at a time stay in the second-level cache.
//
// f32 only, and only where a wide instruction set is there; cpu/convolution.h computes all others, and is what this one
// is tested against. A NaN or an infinity in a tile spreads over the tile.
#pragma once

#include <algorithm>
#include <cstdint>

#include <xent/ops/cpu/convolution.h>

namespace xent::cpu {

struct WinogradPatch;

class Winograd {
 public:
  // Says whether this is the way to compute a convolution: taps of 3 x 3, next to each other, at least 16 channels on
  // both sides, and tiles and vectors so full that at least half of the multiplications are saved. It depends on the
  // problem and the machine, never on threads.
  static bool serves(const Convolution& c);

  explicit Winograd(const Convolution& c);

  // y = f(x * weight + bias), or if there is a place the largest of each 2 x 2 of that, and which it was, row by row;
  // f is none or relu then.  scratch: forward_scratch() elements.
  struct Output {
    float* y;
    uint8_t* place = nullptr;
  };
  void forward(const float* x, const float* weight, const Epilogue<float>& epilogue, const Output& output,
               float* scratch) const;
  int64_t forward_scratch() const { return weight_planes() + out_ + forward_parts() * chunk_planes(); }

  // Each gradient = beta times itself + what dy brings; null where it is not wanted. scratch: backward_scratch()
  // elements, aligned to 8 bytes.
  struct Result {
    const float *y, *dy;
    Activation activation;
    const uint8_t* place = nullptr;  // as forward wrote it
  };
  struct Gradient {
    float* to;
    float beta;
  };
  void backward(const float* x, const float* weight, const Result& result, const Gradient& dx, const Gradient& dweight,
                const Gradient& dbias, float* scratch) const;
  int64_t backward_scratch() const {
    const int64_t weight = c_.depth() * c_.out;
    return backward_parts() * (2 * out_ + weight_planes() + chunk_planes() + weight) + transposed_planes() + weight;
  }

 private:
  static constexpr int64_t planes = 36;
  static constexpr int64_t ones = 7;          // the plane that all results of a tile have once: row 1 of A is all 1
  static constexpr int64_t chunk_tiles = 36;  // transformed at a time
  static constexpr int64_t apart = 16;  // elements after each plane, lest all of them fall on the same cache lines

  int64_t image_tiles() const { return tile_rows_ * tile_columns_; }
  int64_t tiles() const { return c_.batch * image_tiles(); }
  int64_t forward_chunks() const { return (tiles() + chunk_tiles - 1) / chunk_tiles; }
  int64_t forward_parts() const { return c_.parts(forward_chunks()); }
  int64_t backward_parts() const;  // whole images each: tiles of an image overlap

  int64_t image_plane() const { return chunk_tiles * in_ + apart; }  // of V
  int64_t result_plane() const { return chunk_tiles * out_ + apart; }
  int64_t weight_plane() const { return c_.in * out_ + apart; }  // of U, and of dU
  int64_t transposed_plane() const { return c_.out * in_ + apart; }
  int64_t chunk_planes() const { return planes * (image_plane() + result_plane()); }
  int64_t weight_planes() const { return planes * weight_plane(); }
  int64_t transposed_planes() const { return planes * transposed_plane(); }

  template <class T>
  void prefetch(const T* images, int64_t image, int64_t tile) const;  // image: elements of one
  WinogradPatch pixels_of(int64_t tile) const;                        // 6 x 6 of the image
  WinogradPatch result_of(int64_t tile) const;                        // 4 x 4 of the result
  WinogradPatch pooled_of(int64_t tile) const;                        // 2 x 2 of the largest of each 2 x 2

  Convolution c_;
  int64_t in_, out_;  // channels of the planes: a multiple of 16
  int64_t tile_rows_, tile_columns_;
};

}  // namespace xent::cpu
