// row_length: the length of a row that one group of threads walks, as kernels take it: an int. An index within such a
// row and a stride beyond its end are ints too, which take half the registers; where a row begins is an int64.
//
//   const int classes = row_length("softmax", x.shape, x.shape[axis], "classes");
#pragma once

#include <cstdint>

#include <xent/core/shape.h>

namespace xent::cuda {

// An index below it and a step or a shift of at most as much add up to an int.
inline constexpr int64_t longest_row = int64_t{1} << 30;

// Throws ShapeError with the op, the shape and what there are too many of if `length` is above 2^30, and else, the
// second, returns it.
//
//   softmax: [4, 2147483648] has 2147483648 classes; on CUDA 2^30 is the most, on the CPU there is no limit: ...
void require_row(const char* op, const Shape& shape, int64_t length, const char* of);
int row_length(const char* op, const Shape& shape, int64_t length, const char* of);

}  // namespace xent::cuda
