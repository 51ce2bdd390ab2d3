// IDX: the file format of MNIST and its kin. Two zero bytes, a dtype, a rank, big-endian extents, the elements.
//
//   Tensor images = read_idx("data/train-images-idx3-ubyte.gz");  // u8, [60000, 28, 28]
#pragma once

#include <string>

#include <xent/core/tensor.h>

namespace xent {

// Reads a plain or gzipped IDX file of u8, i32, f32 or f64. Throws FormatError, naming the file, for one that is not
// there, damaged or of another kind. Takes memory for what the file holds, never for what its header promises.
Tensor read_idx(const std::string& path);

}  // namespace xent
