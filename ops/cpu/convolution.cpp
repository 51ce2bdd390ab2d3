#include <xent/ops/cpu/convolution.h>

#include <xent/core/parallel.h>

namespace xent::cpu {

namespace {

// The elements of a kernel's extent that fall into the image: first <= k < last.
struct Range {
  int64_t first, last;
};
Range inside(int64_t start, int64_t dilation, int64_t kernel, int64_t extent) {
  const int64_t first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int64_t last = start >= extent ? 0 : (extent - 1 - start) / dilation + 1;
  return {std::min(first, kernel), std::clamp(last, std::min(first, kernel), kernel)};
}

// Calls run(patch offset, image offset, elements) for every run of a patch that lies in the image, and gap(patch
// offset, elements) for what lies in the padding.
template <class Run, class Gap>
void each_run(const Convolution& c, int64_t pixel, const Run& run, const Gap& gap) {
  const int64_t image = pixel / c.image_pixels(), row = pixel % c.image_pixels() / c.out_width,
                column = pixel % c.out_width;
  const int64_t top = row * c.stride.height - c.padding.height, left = column * c.stride.width - c.padding.width;
  const Range columns = inside(left, c.dilation.width, c.kernel_width, c.width);
  const int64_t line = c.kernel_width * c.in;
  for (int64_t ky = 0; ky < c.kernel_height; ++ky) {
    const int64_t y = top + ky * c.dilation.height, patch = ky * line;
    if (y < 0 || y >= c.height || columns.first == columns.last) {
      gap(patch, line);
      continue;
    }
    const int64_t from = ((image * c.height + y) * c.width + left) * c.in;  // of column 0 of the kernel
    const int64_t begin = columns.first * c.in, end = columns.last * c.in;
    if (begin > 0) gap(patch, begin);
    if (c.dilation.width == 1) {
      run(patch + begin, from + begin, end - begin);
    } else {
      for (int64_t kx = columns.first; kx < columns.last; ++kx)
        run(patch + kx * c.in, from + kx * c.dilation.width * c.in, c.in);
    }
    if (end < line) gap(patch + end, line - end);
  }
}

// Short runs are the rule: a call of memcpy would cost more than the copy.
template <class T>
void copy_run(const T* from, int64_t elements, T* to) {
  for (int64_t i = 0; i < elements; ++i) to[i] = from[i];
}

// Returns the patches of output pixels [first, first + count): the images themselves, or gathered into scratch.
template <class T>
const T* patches(const Convolution& c, const T* x, int64_t first, int64_t count, T* scratch) {
  if (c.pointwise()) return x + first * c.in;
  for (int64_t p = 0; p < count; ++p) {
    T* patch = scratch + p * c.depth();
    each_run(
        c, first + p, [&](int64_t to, int64_t from, int64_t elements) { copy_run(x + from, elements, patch + to); },
        [&](int64_t to, int64_t elements) { std::fill_n(patch + to, elements, T(0)); });
  }
  return scratch;
}

// Calls body(part, first pixel, count) for the blocks of patch_rows() pixels in [begin, end) of each part, in order.
template <class Body>
void each_block(const Convolution& c, int64_t parts, const Body& body) {
  const int64_t rows = c.patch_rows(), blocks = (c.pixels() + rows - 1) / rows;
  parallel_chunks(parts, [&](int64_t part) {
    for (int64_t block = part * blocks / parts; block < (part + 1) * blocks / parts; ++block)
      body(part, block * rows, std::min(rows, c.pixels() - block * rows));
  });
}

}  // namespace

template <class T>
void convolve(const Convolution& c, const T* x, const T* weight, const Epilogue<T>& epilogue, T* y, T* scratch) {
  each_block(c, c.forward_parts(), [&](int64_t part, int64_t first, int64_t count) {
    const T* rows = patches(c, x, first, count, scratch + c.scratch(part));
    gemm<T>({count, c.out, c.depth()}, rows, weight, 0, y + first * c.out, epilogue);
  });
}

template <class T>
void convolve_grad_images(const Convolution& c, const T* dz, const T* transposed, float beta, T* dx, T* scratch) {
  const int64_t parts = c.parts(c.batch), rows = c.patch_rows(), image = c.height * c.width * c.in;
  if (c.pointwise()) {
    gemm<T>({c.pixels(), c.in, c.out}, dz, transposed, beta, dx);
    return;
  }
  parallel_chunks(parts, [&](int64_t part) {  // patches overlap within an image, never between images
    T* gradients = scratch + c.scratch(part);
    for (int64_t n = part * c.batch / parts; n < (part + 1) * c.batch / parts; ++n) {
      if (beta == 0) std::fill_n(dx + n * image, image, T(0));
      for (int64_t begin = 0; begin < c.image_pixels(); begin += rows) {
        const int64_t count = std::min(rows, c.image_pixels() - begin), first = n * c.image_pixels() + begin;
        gemm<T>({count, c.depth(), c.out}, dz + first * c.out, transposed, 0, gradients);
        for (int64_t p = 0; p < count; ++p)
          each_run(
              c, first + p,
              [&](int64_t from, int64_t to, int64_t elements) {
                for (int64_t i = 0; i < elements; ++i) dx[to + i] += gradients[p * c.depth() + from + i];
              },
              [](int64_t, int64_t) {});
      }
    }
  });
}

template <class T>
void convolve_grad_weight(const Convolution& c, const T* x, const T* dz, T* partials, T* scratch) {
  const int64_t parts = c.weight_parts(), weight = c.depth() * c.out;
  const int64_t rows = c.patch_rows(), blocks = (c.pixels() + rows - 1) / rows;
  each_block(c, parts, [&](int64_t part, int64_t first, int64_t count) {
    const bool begins = first == part * blocks / parts * rows;
    const T* patch = patches(c, x, first, count, scratch + c.scratch(part));
    gemm<T>({c.depth(), c.out, count, true, false}, patch, dz + first * c.out, begins ? 0 : 1,
            partials + part * weight);
  });
}

template void convolve<float>(const Convolution&, const float*, const float*, const Epilogue<float>&, float*, float*);
template void convolve<double>(const Convolution&, const double*, const double*, const Epilogue<double>&, double*,
                               double*);
template void convolve_grad_images<float>(const Convolution&, const float*, const float*, float, float*, float*);
template void convolve_grad_images<double>(const Convolution&, const double*, const double*, float, double*, double*);
template void convolve_grad_weight<float>(const Convolution&, const float*, const float*, float*, float*);
template void convolve_grad_weight<double>(const Convolution&, const double*, const double*, double*, double*);

}  // namespace xent::cpu
