#include <xent/nn/layers.h>

#include <cmath>

#include <xent/core/require.h>
#include <xent/nn/describe.h>

namespace xent {

Linear::Linear(int64_t in, int64_t out, Generator& random, Activation f, const LinearOptions& options) : activation(f) {
  require<ArgumentError>(in >= 1 && out >= 1, "Linear({}, {}): both extents must be at least 1", in, out);
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  weight = parameter(uniform({in, out}, -bound, bound, random, options.dtype));
  if (options.bias) bias = parameter(uniform({out}, -bound, bound, random, options.dtype));
}

std::string Linear::describe() const {
  return fmt::format("Linear({}, {}{}{})", weight.shape()[0], weight.shape()[1], suffix(activation),
                     bias ? "" : ", no bias");
}

}  // namespace xent
