#include <xent/nn/init.h>

#include <cmath>

#include <xent/core/require.h>
#include <xent/ops/ops.h>

namespace xent {

Fans fans(const Shape& shape) {
  require<ShapeError>(shape.rank() >= 2, "init: weight {} must be [..., in, out]", shape);
  const auto window = static_cast<double>(shape.product(0, shape.rank() - 2));  // 1 for a matrix
  const Fans fans{window * static_cast<double>(shape[-2]), window * static_cast<double>(shape[-1])};
  require<ShapeError>(fans.in > 0, "init: weight {} has no inputs", shape);
  return fans;
}

Tensor kaiming_uniform(const Shape& shape, Generator& random, double gain, DType dtype) {
  const double bound = gain * std::sqrt(3 / fans(shape).in);
  return uniform(shape, -bound, bound, random, dtype);
}

Tensor kaiming_normal(const Shape& shape, Generator& random, double gain, DType dtype) {
  return normal(shape, 0, gain / std::sqrt(fans(shape).in), random, dtype);
}

Tensor xavier_uniform(const Shape& shape, Generator& random, double gain, DType dtype) {
  const auto [in, out] = fans(shape);
  const double bound = gain * std::sqrt(6 / (in + out));
  return uniform(shape, -bound, bound, random, dtype);
}

Tensor xavier_normal(const Shape& shape, Generator& random, double gain, DType dtype) {
  const auto [in, out] = fans(shape);
  return normal(shape, 0, gain * std::sqrt(2 / (in + out)), random, dtype);
}

}  // namespace xent
