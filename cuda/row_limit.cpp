#include <xent/cuda/row_limit.h>

#include <xent/core/require.h>

namespace xent::cuda {

void require_row(const char* op, const Shape& shape, int64_t length, const char* of) {
  require<ShapeError>(length <= longest_row,
                      "{}: {} has {} {}; on CUDA 2^30 is the most, on the CPU there is no limit: .to(Device::cpu())",
                      op, shape, length, of);
}

int row_length(const char* op, const Shape& shape, int64_t length, const char* of) {
  require_row(op, shape, length, of);
  return static_cast<int>(length);
}

}  // namespace xent::cuda
