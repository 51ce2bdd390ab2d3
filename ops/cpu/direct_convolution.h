// Convolution as products that read the images where they are: no patches are gathered.
//
// Channels are innermost, and so what an output pixel reads for one row of the kernel, [kernel w, in], is one run of
// the image, and its right neighbour's begins a stride of pixels later. The product's kernel takes such runs for rows
// of its left side, one after the other for all rows of the kernel. The three products:
//   the result:             what pixels of a row read, times panels of the weight
//   the weight's gradient:  the same transposed, times dz, summed over pixels
//   the images' gradient:   for a stride of 1, the first of dz and the flipped weight
// Padding is in a copy of the few rows that are being read. dz = dy f'(z) is formed for a few rows at a time, and
// serves all gradients while it is in the cache.
//
// Only where a wide instruction set is there. cpu/convolution.h computes all others, and is what this is tested
// against.
#pragma once

#include <algorithm>
#include <cstdint>

#include <xent/ops/cpu/convolution.h>

namespace xent::cpu {

struct DirectTaps;

// Instantiated for float and double.
template <class T>
class DirectConvolution {
 public:
  // Says whether this is the way to compute a convolution and the gradients of its weight and bias; and that of the
  // images too. It depends on the problem and the machine, never on threads.
  static bool serves(const Convolution& c);
  static bool serves_images(const Convolution& c);

  explicit DirectConvolution(const Convolution& c);

  // y = f(x * weight + bias).  scratch: forward_scratch() elements.
  void forward(const T* x, const T* weight, const Epilogue<T>& epilogue, T* y, T* scratch) const;
  int64_t forward_scratch() const;

  // Each gradient = beta times itself + what dy brings; null where it is not wanted. y may be null if there is no
  // activation. scratch: backward_scratch() elements, aligned to 8 bytes; of more if the images' is wanted.
  struct Result {
    const T *y, *dy;
    Activation activation;
  };
  struct Gradient {
    T* to;
    float beta;
  };
  void backward(const T* x, const T* weight, const Result& result, const Gradient& dx, const Gradient& dweight,
                const Gradient& dbias, T* scratch) const;
  int64_t backward_scratch(bool images) const;

 private:
  // Columns to whole panels, and scratch to whole lines of the cache: vectors that straddle two are slow.
  static constexpr int64_t widest_panel = 32;
  static int64_t pad(int64_t elements) { return (elements + widest_panel - 1) / widest_panel * widest_panel; }

  // The rows that a piece of the work computes: of y, or, backward, of dx if it is wanted and else of dz.
  struct Block {
    int64_t image, first, last;
  };
  struct Blocks {
    int64_t rows, per_image;
    int64_t most() const { return (rows + per_image - 1) / per_image; }
    Block operator[](int64_t i) const {
      const int64_t b = i % per_image;
      return {i / per_image, b * rows / per_image, (b + 1) * rows / per_image};
    }
  };
  static Blocks blocks(int64_t rows, int64_t line, int64_t most_elements);
  Blocks forward_blocks() const;
  Blocks backward_blocks(bool images) const;
  int64_t forward_parts() const;
  int64_t backward_parts(bool images) const;

  // Rows of images, which may lie outside, with so many pixels of padding at both ends.
  struct Band {
    int64_t height, width, channels, padding;
    int64_t line() const { return (width + 2 * padding) * channels; }
    int64_t image() const { return height * width * channels; }
  };
  Band x_band() const { return {c_.height, c_.width, c_.in, c_.padding.width}; }
  Band dz_band(bool images) const {
    return {c_.out_height, c_.out_width, c_.out, images ? reach_.width - c_.padding.width : 0};
  }
  int64_t x_rows(int64_t rows) const { return rows > 0 ? (rows - 1) * c_.stride.height + reach_.height + 1 : 0; }
  int64_t x_band_elements(int64_t rows) const;  // of scratch; none without padding

  const T* lines_of_x(const T* x, int64_t image, int64_t first, int64_t rows, T* band) const;
  void pack(const T* weight, T* panels) const;
  void pack_flipped(const T* weight, T* panels) const;
  DirectTaps taps(const Band& of) const;

  struct Backward;  // and its scratch

  Convolution c_;
  Extent2d reach_;  // pixels from a kernel's first tap to its last
};

}  // namespace xent::cpu
