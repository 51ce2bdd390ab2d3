#include <xent/nn/layers.h>

#include <cmath>

#include <xent/core/require.h>

namespace xent {

Linear::Linear(int64_t in, int64_t out, Generator& random, Activation f, const LinearOptions& options) : activation(f) {
  require<ArgumentError>(in >= 1 && out >= 1, "Linear({}, {}): both extents must be at least 1", in, out);
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  weight = parameter(uniform({in, out}, -bound, bound, random, options.dtype));
  if (options.bias) bias = parameter(uniform({out}, -bound, bound, random, options.dtype));
}

std::string Linear::describe() const {
  constexpr const char* suffixes[] = {"", ", relu", ", tanh", ", sigmoid"};
  return fmt::format("Linear({}, {}{}{})", weight.shape()[0], weight.shape()[1],
                     suffixes[static_cast<size_t>(activation)], bias ? "" : ", no bias");
}

}  // namespace xent
