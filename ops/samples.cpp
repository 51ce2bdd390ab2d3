#include <xent/ops/samples.h>

#include <vector>

#include <xent/core/convert.h>
#include <xent/core/dispatch.h>
#include <xent/core/random.h>
#include <xent/core/require.h>

namespace xent {

namespace {

// Calls next(random) once per element, in order.
template <class Next>
Tensor make(const Shape& shape, DType dtype, uint64_t seed, const Next& next) {
  HostRandom random(seed);
  return dispatch(dtype, [&]<class T>() {
    std::vector<T> values(static_cast<size_t>(shape.elements()));
    for (T& value : values) value = convert<T>(next(random));
    return Tensor::from(values, shape);
  });
}

}  // namespace

Tensor normal_sample(const Shape& shape, DType dtype, uint64_t seed) {
  return make(shape, dtype, seed, [](HostRandom& random) { return random.normal(); });
}

Tensor positive_sample(const Shape& shape, DType dtype, uint64_t seed) {
  return make(shape, dtype, seed, [](HostRandom& random) { return 0.5 + 1.5 * random.uniform(); });
}

Tensor nonzero_sample(const Shape& shape, DType dtype, uint64_t seed) {
  return make(shape, dtype, seed, [](HostRandom& random) {
    const double magnitude = 0.1 + 1.9 * random.uniform();
    return random.word() & 1 ? magnitude : -magnitude;
  });
}

Tensor label_sample(const Shape& shape, int64_t classes, DType dtype, uint64_t seed) {
  require<ArgumentError>(classes >= 1, "label_sample: {} classes, there must be at least one", classes);
  return make(shape, dtype, seed,
              [&](HostRandom& random) { return static_cast<int64_t>(random.below(static_cast<uint64_t>(classes))); });
}

}  // namespace xent
