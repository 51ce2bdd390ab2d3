// Convolution as products of patches: the pixels that one output pixel reads are a row, [kernel h, kernel w, in], and
// the weight, a matrix of as many rows, is multiplied by it. Patches are gathered for a few output pixels at a time
// into scratch that stays in the cache; the matrix of all of them, nine times the images, is never there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <xent/ops/conv2d.h>
#include <xent/ops/cpu/gemm.h>

namespace xent::cpu {

struct Convolution : ConvolutionShape {
  using ConvolutionShape::ConvolutionShape;

  // Patches gathered at a time: some 256 KiB of f32, and enough that packing the weight for them pays.
  int64_t patch_rows() const { return std::clamp<int64_t>((1 << 16) / depth(), 64, 256); }

  // Parts the work is cut into, each with scratch of its own: they depend on the problem only.
  static constexpr int64_t most_parts = 16;
  int64_t parts(int64_t items) const { return std::clamp<int64_t>(items, 1, most_parts); }

  // The elements of scratch of so many parts; none where the images are the patches.
  int64_t scratch(int64_t count) const { return pointwise() ? 0 : count * patch_rows() * depth(); }
  int64_t forward_parts() const { return parts((pixels() + patch_rows() - 1) / patch_rows()); }

  // A part of the weight's gradient is as large as the weight: large ones are not cut, and their product is what runs
  // in parallel.
  int64_t weight_parts() const {
    constexpr int64_t most_elements = 1 << 21;
    return std::min(forward_parts(), std::max<int64_t>(1, most_elements / std::max<int64_t>(1, depth() * out)));
  }
};

// Instantiated for float and double; the scratch of part p begins at scratch(p).

// y = f(x * weight + bias):  [pixels, out].
template <class T>
void convolve(const Convolution& c, const T* x, const T* weight, const Epilogue<T>& epilogue, T* y, T* scratch);

// dx = beta dx + the adjoint of the above applied to dz. transposed is the weight's transpose, [out, depth].
template <class T>
void convolve_grad_images(const Convolution& c, const T* dz, const T* transposed, float beta, T* dx, T* scratch);

// partials[p] = part p of patches' dz, [depth, out]; weight_parts() of them.
template <class T>
void convolve_grad_weight(const Convolution& c, const T* x, const T* dz, T* partials, T* scratch);

}  // namespace xent::cpu
